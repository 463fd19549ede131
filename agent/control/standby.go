package control

import (
	"context"
	"net"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/memory"
)

// relay is a [tunnel.Relay].
type relay interface {
	Connect(ctx context.Context, peer identity.ID, ticket string) (net.Conn, error)
	Close() error
}

// standby keeps one relay connection ready while paths are opened: the next path, to whichever
// peer, need not wait for a connection and a handshake with the hub, which are two round trips. An
// agent at rest keeps none, nor does one whose memory is scarce.
//
//	a path was opened -> prepare -> relay -> take: the next path
//	                                  └----- drop: after standbyLife, with the session, with the certificate
type standby struct {
	mu    sync.Mutex
	relay relay           // nil: none; guarded by mu
	timer *time.Timer     // drops relay; guarded by mu
	of    *tunnel.Session // whose hub relay is for, or the one in preparation; nil: neither; guarded by mu
}

// standbyLife is less than the hub waits, by more than a message takes to it.
const standbyLife = tunnel.StandbyTime - 15*time.Second

// take returns the relay connection to the hub of a session, nil if there is none.
func (s *standby) take(of *tunnel.Session) relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == nil || s.of != of {
		return nil
	}
	r := s.relay
	s.timer.Stop()
	s.relay, s.of = nil, nil
	return r
}

// ready reports whether a connection to the hub of a session is kept.
func (s *standby) ready(of *tunnel.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relay != nil && s.of == of
}

// prepare opens a connection, unless there is one or will be, and reports whether it did.
func (s *standby) prepare(of *tunnel.Session, open func() (relay, error)) bool {
	if memory.Here().Small() {
		return false
	}
	s.mu.Lock()
	if s.of == of {
		s.mu.Unlock()
		return false
	}
	s.dropLocked()
	s.of = of
	s.mu.Unlock()

	r, err := open()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.of != of || s.relay != nil: // dropped meanwhile, and maybe prepared anew
		if err == nil {
			r.Close()
		}
	case err != nil:
		s.of = nil
	default:
		s.relay = r
		s.timer = time.AfterFunc(standbyLife, func() { s.expire(r) })
		return true
	}
	return false
}

func (s *standby) expire(r relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == r {
		s.dropLocked()
	}
}

// drop closes the connection that is ready, and the one that is in preparation when it is.
func (s *standby) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
}

func (s *standby) dropLocked() {
	if s.relay != nil {
		s.timer.Stop()
		s.relay.Close()
	}
	s.relay, s.of = nil, nil
}
