package hub

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel"
)

// eventQueue is how many events wait for one agent. They are read as they come; an agent for which so many wait has
// stopped reading.
const eventQueue = 64

// session is the events stream of one agent. Its life is what "online" means.
type session struct {
	peer  *peer
	queue chan *tunnel.Event // never closed
	ended chan struct{}      // closed by end
	once  sync.Once
}

func newSession(p *peer) *session {
	return &session{peer: p, queue: make(chan *tunnel.Event, eventQueue), ended: make(chan struct{})}
}

// offer queues an event that the agent may miss, and reports whether it could.
func (s *session) offer(e *tunnel.Event) bool {
	select {
	case s.queue <- e:
		return true
	default:
		return false
	}
}

// send queues an event that the agent must not miss: if there is no room, the agent is cut off, and catches up when it
// comes back.
func (s *session) send(e *tunnel.Event) {
	if !s.offer(e) {
		s.peer.cut()
	}
}

// end ends the stream.
func (s *session) end() { s.once.Do(func() { close(s.ended) }) }

// events is GET /v1/events.
func (s *server) events(w http.ResponseWriter, r *http.Request, p *peer) error {
	session := newSession(p)
	if refusal := s.registry.attach(session); refusal != nil {
		return refusal
	}
	defer s.registry.detach(session)
	s.log.Debug("online", "endpoint", p.ID, "user", p.User, "addr", p.addr)

	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	write := func(e *tunnel.Event) bool {
		// Without a deadline a reader that stands still would hold this goroutine for as long as its connection lives.
		rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		return enc.Encode(e) == nil && rc.Flush() == nil && rc.SetWriteDeadline(time.Time{}) == nil
	}
	ok := write(&tunnel.Event{Type: tunnel.EventReady}) &&
		write(&tunnel.Event{Type: tunnel.EventTrust, Version: s.verifier.Trust().Version()})
	if ok && p.User == rootUser {
		s.signers.wake()
	}
	for ok {
		select {
		case e := <-session.queue:
			ok = write(e)
		case <-session.ended:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}
