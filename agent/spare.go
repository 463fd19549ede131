package agent

import (
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/memory"
)

// spare keeps one leg of a carrier ready while carriers are opened: the next one, to whomever, need not wait for a connection and a
// handshake with the hub, which are two round trips. An agent at rest keeps none, nor does one whose memory is scarce.
//
//	a carrier was opened -> prepare -> leg -> take: the next carrier
//	                                    └---- drop: after spareLife, with the control session, with the certificate
type spare struct {
	mu    sync.Mutex
	leg   *tunnel.Relay   // nil: none; guarded by mu
	timer *time.Timer     // drops leg; guarded by mu
	of    *tunnel.Session // whose hub leg is for, or the one in preparation; nil: neither; guarded by mu
}

// spareLife is less than the hub waits, by more than a message takes to it.
const spareLife = tunnel.StandbyTime - 15*time.Second

// take returns the spare leg to the hub of a session, nil if there is none.
func (s *spare) take(of *tunnel.Session) *tunnel.Relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leg == nil || s.of != of {
		return nil
	}
	leg := s.leg
	s.timer.Stop()
	s.leg, s.of = nil, nil
	return leg
}

// ready reports whether a leg to the hub of a session is kept.
func (s *spare) ready(of *tunnel.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leg != nil && s.of == of
}

// prepare opens a leg, unless there is one or will be, and reports whether it did.
func (s *spare) prepare(of *tunnel.Session, open func() (*tunnel.Relay, error)) bool {
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

	leg, err := open()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.of != of || s.leg != nil: // dropped meanwhile, and maybe prepared anew
		if err == nil {
			leg.Close()
		}
	case err != nil:
		s.of = nil
	default:
		s.leg = leg
		s.timer = time.AfterFunc(spareLife, func() { s.expire(leg) })
		return true
	}
	return false
}

func (s *spare) expire(leg *tunnel.Relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leg == leg {
		s.dropLocked()
	}
}

// drop ends the leg that is ready, and the one that is in preparation when it is.
func (s *spare) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
}

func (s *spare) dropLocked() {
	if s.leg != nil {
		s.timer.Stop()
		s.leg.Close()
	}
	s.leg, s.of = nil, nil
}
