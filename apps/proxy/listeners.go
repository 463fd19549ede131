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

// listenSpec is where this endpoint should listen, and for what.
type listenSpec struct {
	listenAddr
	dns bool
}

// listeners keeps the listeners that the configuration asks for. A listener that cannot be opened, because the port is
// taken or the address not there yet, is tried again.
type listeners struct {
	want    func() []listenSpec
	open    func(context.Context, listenSpec) (service, error)
	changed chan struct{} // capacity 1, never closed: want has a new answer

	mu    sync.Mutex
	state map[listenSpec]*listenerState // guarded by mu; written by run alone
}

type listenerState struct {
	service service // nil if it could not be opened
	err     error   // why
}

// ListenerStatus is a listener as the API shows it.
type ListenerStatus struct {
	Listen string `json:"listen"`            // as configured
	Bound  string `json:"address,omitempty"` // with the port that the system chose
	DNS    bool   `json:"dns,omitempty"`
	Open   bool   `json:"open"`
	Error  string `json:"error,omitempty"`
}

const reopenEvery = 5 * time.Second

// run opens and closes listeners until ctx ends, and then closes all.
func (ls *listeners) run(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	retry := time.NewTicker(reopenEvery)
	defer retry.Stop()
	for {
		ls.reconcile(ctx, ls.want(), &serving)
		select {
		case <-ctx.Done():
			ls.reconcile(ctx, nil, &serving)
			return
		case <-ls.changed:
		case <-retry.C:
		}
	}
}

// wake makes run look at the configuration again.
func (ls *listeners) wake() {
	select {
	case ls.changed <- struct{}{}:
	default: // it is going to look already
	}
}

func (ls *listeners) reconcile(ctx context.Context, want []listenSpec, serving *sync.WaitGroup) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for d, s := range ls.state {
		if !slices.Contains(want, d) {
			if s.service != nil {
				s.service.Close()
			}
			delete(ls.state, d)
		}
	}
	for _, d := range want {
		if s := ls.state[d]; s != nil && s.service != nil {
			continue
		}
		svc, err := ls.open(ctx, d)
		ls.state[d] = &listenerState{svc, err}
		if err == nil {
			serving.Go(func() { svc.Serve(ctx) })
		}
	}
}

// status lists the listeners, sorted.
func (ls *listeners) status() []ListenerStatus {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]ListenerStatus, 0, len(ls.state))
	for d, s := range ls.state {
		st := ListenerStatus{Listen: d.String(), DNS: d.dns, Open: s.service != nil}
		if s.service != nil {
			st.Bound = s.service.Bound()
		} else {
			st.Error = s.err.Error()
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b ListenerStatus) int { return cmp.Compare(a.Listen, b.Listen) })
	return out
}
