package hub

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// session is the events stream of one agent. Its life is what "online" means.
type session struct {
	peer   *peer
	attach []byte          // what the agent signed to attach; nil if it did not
	said   identity.Attach // the same, read
	some   chan struct{}   // capacity 1: holds a token if something is queued; never closed
	ended  chan struct{}   // closed by end
	once   sync.Once

	mu    sync.Mutex
	queue []*tunnel.Event // at most limits.EventQueue; usually nil
}

func newSession(p *peer) *session {
	return &session{peer: p, some: make(chan struct{}, 1), ended: make(chan struct{})}
}

// Offer implements [relay.Session]: it queues an event that the agent may miss, unless so many wait already, and reports whether
// it did.
func (s *session) Offer(most int, e *tunnel.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= most {
		return false
	}
	s.queue = append(s.queue, e)
	select {
	case s.some <- struct{}{}:
	default:
	}
	return true
}

// next takes the oldest event out of the queue; nil if there is none.
func (s *session) next() *tunnel.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.queue = nil
		return nil
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return e
}

// send queues an event that the agent must not miss: if there is no room, the agent is cut off, and
// catches up when it comes back. It reports whether there was room.
func (s *session) send(e *tunnel.Event) bool {
	ok := s.Offer(limits.EventQueue, e)
	if !ok {
		s.peer.cut()
	}
	return ok
}

// Ended implements [relay.Session].
func (s *session) Ended() <-chan struct{} { return s.ended }

// end ends the stream.
func (s *session) end() { s.once.Do(func() { close(s.ended) }) }

// getEvents is GET /v1/events.
func (s *server) getEvents(w http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	session := newSession(p)
	if err := s.readAttach(session, r.Header.Get(tunnel.FieldAttach)); err != nil {
		return err
	}
	detach, err := s.sessions.attach(session)
	if err != nil {
		return err
	}
	s.links.Endpoint(p.ID)
	defer func() {
		detach()
		s.links.Endpoint(p.ID)
		s.away.Left(p.ID, time.Now())
	}()
	s.log.Debug("online", "endpoint", p.ID, "user", p.User, "addr", p.addr)
	if idle, err := strconv.Atoi(r.Header.Get(tunnel.FieldIdle)); err == nil {
		h2.SetIdle(r, h2.HubLater+max(tunnel.LeadIdle, min(time.Duration(idle)*time.Second, tunnel.SpareIdle)))
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	trust := s.verifier.Trust()
	ok := stream(w, &tunnel.Event{Type: tunnel.EventReady}) &&
		stream(w, &tunnel.Event{Type: tunnel.EventTrust, Version: trust.Version(), Sum: trust.Head().Sum})
	ok = ok && stream(w, &tunnel.Event{Type: tunnel.EventHubs})
	if ok && p.User == rootUser {
		s.signers.wake()
		for _, sum := range s.forks.Sums() {
			ok = ok && stream(w, &tunnel.Event{Type: tunnel.EventFork, Sum: sum})
		}
	}
	for ok {
		select {
		case <-session.some:
			for e := session.next(); ok && e != nil; e = session.next() {
				ok = stream(w, e)
			}
		case <-session.ended:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}

// readAttach reads what an agent has signed to attach to this hub. Of two processes with one key the
// newer one counts, wherever the other is attached.
func (s *server) readAttach(session *session, text string) (err error) {
	if text == "" {
		return nil
	}
	id := session.peer.ID
	if session.attach, err = base64.StdEncoding.DecodeString(text); err == nil {
		session.said, err = identity.OpenAttach(session.attach, session.peer.Key, s.id)
	}
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%s", limit.Clip(err.Error()))
	}
	instance, since := s.links.Newest(id)
	if instance != "" && instance != session.said.Instance && since > session.said.Since {
		return answer.Errorf(answer.Conflict, "another process with the key of endpoint %s is newer, and attached to another hub", id)
	}
	return nil
}

// stream sends one event and reports whether the agent has taken it.
func stream(w http.ResponseWriter, e *tunnel.Event) (ok bool) {
	// Encoding makes the stack grow. The goroutine of a stream is idle nearly always, and there are
	// thousands: it does not keep that stack.
	done := make(chan struct{})
	go func() { // awaited at once
		defer close(done)
		rc := http.NewResponseController(w)
		rc.SetWriteDeadline(time.Now().Add(limits.WriteTimeout)) // so that a stalled reader does not block this
		ok = json.NewEncoder(w).Encode(e) == nil && rc.Flush() == nil && rc.SetWriteDeadline(time.Time{}) == nil
	}()
	<-done
	return ok
}
