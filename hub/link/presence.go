package link

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"slices"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// attachment is what another hub says of an endpoint: that it is attached there.
type attachment struct {
	Attachment
	state state // guarded by Links.mu
}

// state says how far an attachment is believed.
type state byte

const (
	unsure state = iota // not verified: it counts for nothing
	weak                // its agent signs no attachments: it counts where no other does
	signed              // by the endpoint
)

// same reports whether two attachments are one: what was signed is the same.
func (a *attachment) same(b *attachment) bool {
	return a.Instance == b.Instance && a.Since == b.Since && bytes.Equal(a.Attach, b.Attach)
}

// judge verifies the attachment of an endpoint to another hub. One that the endpoint has not signed
// is dropped. It reports false if the record of the endpoint, which has its key, is not there yet.
func (l *Links) judge(h *hub, id identity.ID) bool {
	l.mu.Lock()
	a := h.attached[id]
	l.mu.Unlock()
	if a == nil {
		return true
	}
	result := weak
	if a.Attach != nil {
		key := l.c.Host.Key(id)
		if key == nil {
			return false
		}
		said, err := identity.OpenAttach(a.Attach, key, h.id)
		if err != nil || said.ID != id || said.Instance != a.Instance || said.Since != a.Since {
			l.metrics.Forged.Add(1)
			l.fault("attach "+string(h.id), "a hub claims an endpoint that did not attach to it", "hub", h.id, "endpoint", id, "err", err)
			result = unsure
		} else {
			result = signed
		}
	}
	l.mu.Lock()
	if h.attached[id] == a {
		if a.state = result; result == unsure {
			delete(h.attached, id)
		}
	}
	l.mu.Unlock()
	if result == signed {
		l.c.Host.Replace(id, a.Instance, a.Since)
	}
	return true
}

// Where returns the hubs to which an endpoint is attached, as they say, in the order in which to
// ask them for a path: those to which it attached last, then the nearest. Hubs that drain are left
// out.
func (l *Links) Where(id identity.ID) []identity.ID {
	type candidate struct {
		h *hub
		a *attachment
	}
	var all []candidate
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, h := range l.hubs {
		a := h.attached[id]
		if a != nil && a.state != unsure && !h.record.Draining && now.Sub(h.heard) < l.c.Silent {
			all = append(all, candidate{h, a})
		}
	}
	slices.SortFunc(all, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(y.a.state, x.a.state), cmp.Compare(y.a.Since, x.a.Since),
			cmp.Compare(x.h.rtt, y.h.rtt), cmp.Compare(x.h.id, y.h.id))
	})
	ids := make([]identity.ID, len(all))
	for i, c := range all {
		ids[i] = c.h.id
	}
	return ids
}

// Seen returns where other hubs see an endpoint. It is for people: what a hub said that has been
// lost since then counts for a few seconds.
func (l *Links) Seen(id identity.ID) (address string, hubs []identity.ID, online bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hubs {
		if a := h.attached[id]; a != nil && a.state != unsure {
			address, online = a.Address, true
			hubs = append(hubs, h.id)
		} else if a := h.ghosts[id]; a != nil && a.state != unsure {
			address, online = cmp.Or(address, a.Address), true
		}
	}
	slices.Sort(hubs)
	return address, hubs, online
}

// Newest returns the newest process of an endpoint that is attached to another hub; "" if none is.
func (l *Links) Newest(id identity.ID) (instance string, since unixtime.Millis) {
	l.mu.Lock()
	for _, h := range l.hubs {
		if a := h.attached[id]; a != nil && a.state == signed && a.Since >= since {
			instance, since = a.Instance, a.Since
		}
	}
	l.mu.Unlock()
	return instance, since
}

// Recheck ends the links to hubs that are not let in any longer, after a new trust list, and forgets
// those hubs.
func (l *Links) Recheck() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, h := range l.hubs {
		linked := h.session != nil
		if linked {
			if _, err := l.c.Verifier.Subject(h.session.TLS(), identity.RoleHub); err != nil {
				h.session.Close()
				l.cutLocked(h)
				linked = false
			}
		}
		if h.doc != nil && !linked && !l.goodLocked(h) {
			l.cutLocked(h)
			delete(l.hubs, id)
			if h.forget != nil {
				h.forget()
			}
		}
	}
	for _, f := range l.feeds {
		f.tellTrust()
	}
}

// goodLocked reports whether the certificate in the record of a hub is one that is let in.
func (l *Links) goodLocked(h *hub) bool {
	cert, err := x509.ParseCertificate(bytes.Clone(h.record.Certificate))
	if err != nil {
		return false
	}
	_, err = l.c.Verifier.Trust().Verify(cert, identity.RoleHub, l.c.Verifier.Clock().Now())
	return err == nil
}
