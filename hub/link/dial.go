package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// How a hub comes to its links. Each address of --peers has a goroutine that looks which hubs are
// behind it (seek), and each hub that is known has one that keeps a link to it (keep). Behind one
// name there may be several hubs, by several addresses of the name or by a proxy that chooses one
// by chance, so a hub that answers need not be the one that was wanted.

// place is where a hub may be.
type place struct {
	name    string // host:port as somebody wrote it
	address string // ip:port
}

// places returns the addresses of a name.
func (l *Links) places(ctx context.Context, name string) ([]place, error) {
	all, err := tunnel.Places(ctx, l.c.Lookup, name)
	if err != nil {
		return nil, err
	}
	out := make([]place, len(all))
	for i, address := range all {
		out[i] = place{name, address}
	}
	return out, nil
}

// config is for dialling a hub at a place.
func (l *Links) config(p place, want identity.ID, proto string) *tls.Config {
	c := l.c.Verifier.ClientConfig(l.c.Certificate(), identity.RoleHub, want, proto)
	c.ServerName, _, _ = net.SplitHostPort(p.name)
	return c
}

// seek finds the hubs behind a name until ctx ends.
func (l *Links) seek(ctx context.Context, name string) {
	wait := firstBackoff
	for pauseAround(ctx, wait, nil) {
		wait = min(2*wait, lastBackoff)
		all, err := l.places(ctx, name)
		if err != nil {
			l.fault("name "+name, "a hub cannot be found", "name", name, "err", err)
			continue
		}
		for _, p := range all {
			if l.linkedAt(p) {
				wait = seekTime
				continue
			}
			found, again := l.look(ctx, p)
			if found {
				wait = seekTime
			}
			wait = max(wait, again)
		}
	}
}

// linkedAt reports whether a link goes to a place.
func (l *Links) linkedAt(p place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hubs {
		if h.session != nil && h.session.Address() == p.address {
			return true
		}
	}
	return false
}

// look meets the hub at a place. It reports whether there is one, and for how long a refusal
// counts.
func (l *Links) look(ctx context.Context, p place) (found bool, again time.Duration) {
	s, id, err := l.meet(ctx, p, "")
	if err != nil {
		return false, l.trouble(nil, p, err)
	}
	l.mu.Lock()
	h, err := l.hubs[id], error(nil)
	if id != l.own.ID && h == nil {
		h, err = l.hubLocked(id)
	}
	if h != nil && h.session == nil && h.doc == nil {
		h.record.Names = []string{p.name} // until it tells better ones
	}
	l.mu.Unlock()
	s.Close()
	if err != nil {
		l.fault("roster", "a hub is not linked with", "hub", id, "err", err)
	}
	return true, 0
}

// meet opens a session with the hub at a place. want is its ID; "" takes any.
func (l *Links) meet(ctx context.Context, p place, want identity.ID) (*tunnel.Session, identity.ID, error) {
	s, err := tunnel.Open(ctx, &tunnel.Dialer{}, p.address, l.config(p, want, tunnel.HubProto))
	if err != nil {
		return nil, "", err
	}
	subject, err := l.c.Verifier.Subject(s.TLS(), identity.RoleHub)
	if err != nil {
		s.Close()
		return nil, "", err
	}
	return s, subject.ID, nil
}

// keep keeps a link to a hub until ctx ends.
func (l *Links) keep(ctx context.Context, h *hub) {
	wait := firstBackoff
	for ctx.Err() == nil {
		most := lastBackoff
		if s, p := l.reach(ctx, h); s != nil {
			began := time.Now()
			if err := l.follow(ctx, h, s, p); err != nil && ctx.Err() == nil {
				most = max(most, l.trouble(h, p, err)) // one that was evicted may never have a link again
			}
			s.Close()
			if time.Since(began) > lastBackoff {
				wait = firstBackoff
			}
		}
		l.mu.Lock()
		refused := h.trouble != "" && h.heard.IsZero()
		l.mu.Unlock()
		if refused {
			wait = refusedTime
		}
		if !pauseAround(ctx, wait, h.wake) {
			return
		}
		wait = min(2*wait, most)
	}
}

// reach dials a hub at all places where it may be, and returns nil if it is at none.
func (l *Links) reach(ctx context.Context, h *hub) (*tunnel.Session, place) {
	l.mu.Lock()
	names := slices.Clone(h.record.Names)
	l.mu.Unlock()
	for _, name := range names {
		all, err := l.places(ctx, name)
		if err != nil {
			l.fault("name "+name, "a hub cannot be found", "name", name, "err", err)
			continue
		}
		for _, p := range all {
			s, _, err := l.meet(ctx, p, h.id)
			if err == nil {
				return s, p
			}
			if ctx.Err() != nil {
				return nil, place{}
			}
			l.trouble(h, p, err)
		}
	}
	return nil, place{}
}

// trouble notes why a hub cannot be linked with, and returns for how long that is so. h is nil for
// a place whose hub is not known.
func (l *Links) trouble(h *hub, p place, err error) time.Duration {
	why, again := "", time.Duration(0)
	switch {
	case errors.Is(err, tunnel.ErrVersion):
		why = "it is of a version that does not know other hubs"
	case errors.Is(err, identity.ErrWrongMesh):
		why = "it is a hub of another mesh"
	case errors.Is(err, identity.ErrWrongID):
		return 0 // another hub behind the same name
	case errors.Is(err, tunnel.ErrRejected):
		why = "it does not accept the certificate of this hub, which was evicted, or a clock is wrong"
		err = errors.New(why)
	case errors.Is(err, identity.ErrUntrusted), errors.Is(err, identity.ErrEvicted), errors.Is(err, identity.ErrExpired):
		why = err.Error()
	}
	if why != "" {
		again = refusedTime
	}
	if l.setTrouble(h, why) {
		l.fault("hub "+p.name, "no link to a hub", "name", p.name, "address", p.address, "err", err)
	}
	return again
}

// setTrouble reports whether the trouble is worth a line in the log.
func (l *Links) setTrouble(h *hub, why string) bool {
	if h == nil {
		return true
	}
	l.mu.Lock()
	news := why != h.trouble || why == ""
	h.trouble = why
	l.mu.Unlock()
	return news
}

// fault logs what may happen again and again, once.
func (l *Links) fault(key, msg string, args ...any) {
	text := limit.Clip(fmt.Sprint(append([]any{msg}, args...)...))
	l.mu.Lock()
	again := l.said[key] == text
	if len(l.said) >= mostSaid {
		clear(l.said)
	}
	l.said[key] = text
	l.mu.Unlock()
	if !again {
		l.c.Log.Warn(msg, args...)
	}
}

// mostSaid bounds what is remembered of the log.
const mostSaid = 1024
