package link

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// learn takes the signed record of a hub, from whomever, and reports whether it says anything new.
// Records are verified, and of two the one with the later time counts.
func (l *Links) learn(doc []byte) (news bool, err error) {
	r, subject, err := l.c.Verifier.HubRecord(doc)
	if err != nil {
		return false, err
	}
	if subject.ID == l.own.ID {
		l.outdo(r.Time)
		return false, nil
	}
	news, err = l.note(r, doc)
	if news {
		l.c.Host.Changed()
	}
	return news, err
}

// outdo signs the hub's own record anew if others have one of a later time: the hub's clock was ahead
// in an earlier run.
func (l *Links) outdo(time unixtime.Millis) {
	l.mu.Lock()
	behind := l.own.Time < time
	if behind {
		l.own.Time = time
	}
	l.mu.Unlock()
	if behind {
		l.Renewed()
	}
}

func (l *Links) note(r identity.HubRecord, doc []byte) (news bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.hubLocked(r.ID)
	if err != nil || h.doc != nil && r.Time <= h.record.Time {
		return false, err
	}
	news = h.doc == nil || !sameHub(h.record, r)
	h.doc, h.record = bytes.Clone(doc), r
	for to, f := range l.feeds {
		if to != r.ID {
			f.tellHub(r.ID)
		}
	}
	return news, nil
}

// sameHub reports whether two records of a hub differ in nothing but time and certificate.
func sameHub(a, b identity.HubRecord) bool {
	return slices.Equal(a.Names, b.Names) && a.Zone == b.Zone && a.Version == b.Version && a.Weight == b.Weight &&
		a.Draining == b.Draining
}

// hubLocked returns what is known of a hub, and makes room for it if it is new.
func (l *Links) hubLocked(id identity.ID) (*hub, error) {
	h := l.hubs[id]
	if h != nil {
		return h, nil
	}
	if len(l.hubs) >= tunnel.MaxHubs-1 {
		return nil, answer.Errorf(answer.Limit, "this hub knows %d others, which is the limit", len(l.hubs))
	}
	h = &hub{id: id, wake: make(chan struct{}, 1), some: make(chan struct{}, 1), legs: map[*Leg]struct{}{}}
	l.hubs[id] = h
	l.wake()
	return h, nil
}

// Known returns the records of all other hubs, to be kept for the next run.
func (l *Links) Known() (docs [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.sortedLocked() {
		if h.doc != nil {
			docs = append(docs, h.doc)
		}
	}
	return docs
}

func (l *Links) sortedLocked() []*hub {
	hubs := make([]*hub, 0, len(l.hubs))
	for _, h := range l.hubs {
		hubs = append(hubs, h)
	}
	slices.SortFunc(hubs, func(a, b *hub) int { return strings.Compare(string(a.id), string(b.id)) })
	return hubs
}

// List returns all hubs that are known, this one first.
func (l *Links) List() tunnel.Hubs {
	agents := len(l.c.Host.Attached())
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := tunnel.Hubs{Hubs: []tunnel.HubEntry{{
		Record: l.ownDoc, Self: true, Online: true, Agents: agents, Links: l.linksLocked(), Draining: l.draining,
	}}}
	for _, h := range l.sortedLocked() {
		if h.doc == nil {
			continue
		}
		e := tunnel.HubEntry{Record: h.doc, Agents: h.agents, Links: h.links, Draining: h.record.Draining, Refused: h.trouble}
		if e.Online = h.session != nil && h.attached != nil; e.Online {
			e.RTT, e.Lag = max(h.rtt.Milliseconds(), 1), now.Sub(h.heard).Milliseconds()
		}
		out.Hubs = append(out.Hubs, e)
	}
	return out
}

// linksLocked returns how many hubs there are links to.
func (l *Links) linksLocked() (n int) {
	for _, h := range l.hubs {
		if h.attached != nil {
			n++
		}
	}
	return n
}

// Linked returns how many hubs this one is linked with.
func (l *Links) Linked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.linksLocked()
}

// Complete reports whether this hub hears all hubs that it knows of, so that it knows who is
// attached to any of them.
func (l *Links) Complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.linksLocked() == len(l.hubs)
}
