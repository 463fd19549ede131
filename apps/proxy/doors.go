package proxy

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// service is a listener at work, for clients or for DNS.
type service interface {
	Serve(context.Context) // blocks until all that it started has ended, which is after Close
	Close() error          // stops listening
	Bound() string         // where it listens in fact: the address with the port that the system chose
}

// door is where this endpoint should listen, and for what.
type door struct {
	listenAddr
	dns bool
}

// doors keeps the listeners that the configuration asks for. A listener that cannot be opened, because the port is
// taken or the address not there yet, is tried again.
type doors struct {
	want    func() []door
	open    func(context.Context, door) (service, error)
	changed chan struct{} // capacity 1, never closed: want has a new answer

	mu    sync.Mutex
	state map[door]*doorState // guarded by mu; written by run alone
}

type doorState struct {
	service service // nil if it could not be opened
	err     error   // why
}

// DoorStatus is a listener as the API shows it.
type DoorStatus struct {
	Listen string `json:"listen"`          // as configured
	Bound  string `json:"bound,omitempty"` // with the port that the system chose
	DNS    bool   `json:"dns,omitempty"`
	Open   bool   `json:"open"`
	Error  string `json:"error,omitempty"`
}

const reopenEvery = 5 * time.Second

// run opens and closes listeners until ctx ends, and then closes all.
func (ds *doors) run(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	retry := time.NewTicker(reopenEvery)
	defer retry.Stop()
	for {
		ds.reconcile(ctx, ds.want(), &serving)
		select {
		case <-ctx.Done():
			ds.reconcile(ctx, nil, &serving)
			return
		case <-ds.changed:
		case <-retry.C:
		}
	}
}

// poke makes run look at the configuration again.
func (ds *doors) poke() {
	select {
	case ds.changed <- struct{}{}:
	default: // it is going to look already
	}
}

func (ds *doors) reconcile(ctx context.Context, want []door, serving *sync.WaitGroup) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for d, s := range ds.state {
		if !slices.Contains(want, d) {
			if s.service != nil {
				s.service.Close()
			}
			delete(ds.state, d)
		}
	}
	for _, d := range want {
		if s := ds.state[d]; s != nil && s.service != nil {
			continue
		}
		svc, err := ds.open(ctx, d)
		ds.state[d] = &doorState{svc, err}
		if err == nil {
			serving.Go(func() { svc.Serve(ctx) })
		}
	}
}

// status lists the listeners, sorted.
func (ds *doors) status() []DoorStatus {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	out := make([]DoorStatus, 0, len(ds.state))
	for d, s := range ds.state {
		st := DoorStatus{Listen: d.String(), DNS: d.dns, Open: s.service != nil}
		if s.service != nil {
			st.Bound = s.service.Bound()
		} else {
			st.Error = s.err.Error()
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b DoorStatus) int { return cmp.Compare(a.Listen, b.Listen) })
	return out
}
