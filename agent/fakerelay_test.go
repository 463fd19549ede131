package agent

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
)

// fakeRelay joins streams of agents, as a hub does for those that have no second connection to it.
type fakeRelay struct {
	mu      sync.Mutex
	streams map[identity.ID]func(tunnel.Event) // events streams; guarded by mu
	waiting map[string]chan farStream          // by ticket; guarded by mu
}

type farStream struct {
	*h2.Stream
	done chan struct{} // closed when the stream is no longer used
}

func newFakeRelay() *fakeRelay {
	return &fakeRelay{streams: map[identity.ID]func(tunnel.Event){}, waiting: map[string]chan farStream{}}
}

// events is an agent's stream of events.
func (f *fakeRelay) events(w http.ResponseWriter, r *http.Request) {
	peer := h2.Tag(r).(identity.ID)
	var mu sync.Mutex
	send := func(e tunnel.Event) {
		mu.Lock()
		defer mu.Unlock()
		json.NewEncoder(w).Encode(e)
		http.NewResponseController(w).Flush()
	}
	f.mu.Lock()
	f.streams[peer] = send
	f.mu.Unlock()
	send(tunnel.Event{Type: tunnel.EventReady})
	<-r.Context().Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, peer)
}

// relay is a CONNECT: of the agent that wants a peer, or with the ticket of the peer that was
// asked.
func (f *fakeRelay) relay(w http.ResponseWriter, r *http.Request) {
	if ticket := r.Header.Get(tunnel.FieldTicket); ticket != "" {
		f.answer(w, r, ticket)
		return
	}
	ticket, opener := rand.Text(), make(chan farStream, 1)
	f.mu.Lock()
	f.waiting[ticket] = opener
	send := f.streams[identity.ID(r.Host)]
	f.mu.Unlock()
	if send == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	send(tunnel.Event{Type: tunnel.EventDialBack, Ticket: ticket, Peer: h2.Tag(r).(identity.ID)})
	select {
	case there := <-opener:
		defer close(there.done)
		here, err := h2.Accept(r)
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			io.Copy(there, here)
			there.Close()
		})
		io.Copy(here, there)
		here.Close()
		wg.Wait()
	case <-r.Context().Done():
	}
}

func (f *fakeRelay) answer(w http.ResponseWriter, r *http.Request, ticket string) {
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
	far := farStream{s, make(chan struct{})}
	opener <- far
	<-far.done
}
