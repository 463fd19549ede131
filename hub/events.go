package hub

import (
	"context"
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
	"ztm/tunnel/tuning"
)

// session is the events stream of one agent. Its life is what "online" means. Nothing waits for
// events: who has one begins to tell, and a goroutine goes on until the queue is empty.
type session struct {
	peer   *peer
	stream *h2.Stream
	attach []byte          // what the agent signed to attach; nil if it did not
	said   identity.Attach // the same, read
	ended  chan struct{}   // closed by end

	mu      sync.Mutex
	queue   []*tunnel.Event // at most limits.EventQueue; usually nil
	telling bool            // somebody writes to the stream
	over    bool            // ended is closed
}

// newSession makes the session of a stream. Whoever makes it calls tell.
func newSession(p *peer, stream *h2.Stream) *session {
	return &session{peer: p, stream: stream, ended: make(chan struct{}), telling: true}
}

// Offer implements [relay.Session]: it queues an event that the agent may miss, unless so many wait
// already, and reports whether it did.
func (s *session) Offer(most int, e *tunnel.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= most {
		return false
	}
	s.queue = append(s.queue, e)
	if !s.telling && !s.over {
		s.telling = true
		go s.tell() // ends when the queue is empty, at the latest with the stream
	}
	return true
}

// tell writes these events and then those of the queue. One goroutine at a time does.
func (s *session) tell(first ...*tunnel.Event) {
	for _, e := range first {
		if !s.write(e) {
			return
		}
	}
	for e := s.next(); e != nil; e = s.next() {
		if !s.write(e) {
			return
		}
	}
}

// next takes the oldest event out of the queue. If there is none, or the session has ended, it
// returns nil, and the telling is over.
func (s *session) next() *tunnel.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || s.over {
		s.queue, s.telling = nil, false
		s.stream.SetWriteDeadline(time.Time{})
		if s.over {
			s.stream.Close()
		}
		return nil
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return e
}

// write writes one event and reports whether it could. An agent that takes nothing loses its
// stream.
func (s *session) write(e *tunnel.Event) bool {
	b, err := json.Marshal(e)
	if err == nil {
		s.stream.SetWriteDeadline(time.Now().Add(limits.WriteTimeout))
		_, err = s.stream.Write(append(b, '\n'))
	}
	if err != nil {
		s.stream.Reset() // telling stays set: nobody writes again
	}
	return err == nil
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

// Ping implements [relay.Session].
func (s *session) Ping(ctx context.Context) error {
	_, err := s.stream.Conn().Ping(ctx)
	return err
}

// end ends the stream, after the event that is being written. It does not wait.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	close(s.ended)
	if !s.telling {
		s.stream.Close()
	}
}

// getEvents is GET /v1/events. The stream outlives the request, see [h2.Stream.Keep].
func (s *server) getEvents(_ http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	session := newSession(p, h2.StreamOf(r))
	if err := s.readAttach(session, r.Header.Get(tunnel.FieldAttach)); err != nil {
		return err
	}
	if !s.handlers.Enter() {
		return errShutdown
	}
	detach, err := s.sessions.attach(session)
	if err != nil {
		s.handlers.Leave()
		return err
	}
	s.links.Endpoint(p.ID)
	s.log.Debug("online", "endpoint", p.ID, "user", p.User, "addr", p.addr)
	if idle, err := strconv.Atoi(r.Header.Get(tunnel.FieldIdle)); err == nil {
		h2.SetIdle(r, tuning.HubLater+max(tunnel.LeadIdle, min(time.Duration(idle)*time.Second, tunnel.SpareIdle)))
	}
	session.stream.Keep(func() { go s.left(session, detach) }) // awaited by the shutdown
	session.stream.Respond(h2.Fields{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/x-ndjson"}}, false)
	session.tell(s.news(p)...)
	return nil
}

// news are the events that every stream begins with.
func (s *server) news(p *peer) []*tunnel.Event {
	trust := s.verifier.Trust()
	all := []*tunnel.Event{{Type: tunnel.EventReady}, {Type: tunnel.EventTrust, Version: trust.Version(), Sum: trust.Head().Sum}, {Type: tunnel.EventHubs}}
	if p.User == identity.RootUser {
		s.signers.wake()
		for _, sum := range s.forks.Sums() {
			all = append(all, &tunnel.Event{Type: tunnel.EventFork, Sum: sum})
		}
	}
	return all
}

// left makes an agent offline whose stream is over.
func (s *server) left(session *session, detach func()) {
	defer s.handlers.Leave()
	detach()
	s.links.Endpoint(session.peer.ID)
	s.away.Left(session.peer.ID, time.Now())
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
