// Package relaytest is the least of a hub: it joins streams of control sessions, as a hub does for
// agents that have no second connection to it. Hubs that misbehave are made of it.
//
//	Events: ready, then a dial-back for each path that is asked for
//	Connect: the stream of the opener waits for the one with its ticket, and both are joined
package relaytest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
)

// timeout is how long an opener waits for its peer.
const timeout = 5 * time.Second

// Streams joins streams. Requests are those of an [h2.Server] whose connections are tagged with the
// ID of the agent. It is safe for concurrent use.
type Streams struct {
	mu      sync.Mutex
	events  map[identity.ID]func(tunnel.Event) // guarded by mu
	waiting map[string]chan far                // by ticket; guarded by mu
}

// far is the stream of the peer that answers a dial-back. It ends with its handler, so that waits
// for done.
type far struct {
	*h2.Stream
	done chan struct{} // closed when the stream is no longer used
}

// New returns one without agents.
func New() *Streams {
	return &Streams{events: map[identity.ID]func(tunnel.Event){}, waiting: map[string]chan far{}}
}

// Events answers an agent's request for events until it ends. If more is not nil, it may send
// others after the first.
func (f *Streams) Events(w http.ResponseWriter, r *http.Request, more func(ctx context.Context, send func(tunnel.Event))) {
	peer := h2.Tag(r).(identity.ID)
	out, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	var mu sync.Mutex
	send := func(e tunnel.Event) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(e)
		flush()
	}
	f.mu.Lock()
	f.events[peer] = send
	f.mu.Unlock()
	send(tunnel.Event{Type: tunnel.EventReady})
	if more != nil {
		more(r.Context(), send)
	}
	<-r.Context().Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.events, peer)
}

// Connect answers a CONNECT: of the agent that wants a peer, or with the ticket of the peer that
// was asked.
func (f *Streams) Connect(w http.ResponseWriter, r *http.Request) {
	if ticket := r.Header.Get(tunnel.FieldTicket); ticket != "" {
		f.answer(w, r, ticket)
		return
	}
	ticket, opener := rand.Text(), make(chan far, 1)
	f.mu.Lock()
	f.waiting[ticket] = opener
	send := f.events[identity.ID(r.Host)]
	f.mu.Unlock()
	if send == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	send(tunnel.Event{Type: tunnel.EventDialBack, Ticket: ticket, Peer: h2.Tag(r).(identity.ID)})
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case there := <-opener:
		defer close(there.done)
		if here, err := h2.Accept(r); err == nil {
			join(here, there.Stream)
		}
	case <-r.Context().Done():
	case <-late.C:
	}
}

// answer gives the stream of a peer to the opener that waits for it.
func (f *Streams) answer(w http.ResponseWriter, r *http.Request, ticket string) {
	f.mu.Lock()
	opener, ok := f.waiting[ticket]
	delete(f.waiting, ticket)
	f.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s, err := h2.Accept(r)
	if err != nil {
		return
	}
	there := far{s, make(chan struct{})}
	opener <- there
	select {
	case <-there.done:
	case <-r.Context().Done(): // the opener was gone
	}
}

func join(a, b *h2.Stream) {
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(b, a)
		b.Close()
	})
	io.Copy(a, b)
	a.Close()
	back.Wait()
}
