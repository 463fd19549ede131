// Package traffic carries what passes through one end of a tunnel: it limits it, counts it, and
// relays the datagrams of which it has some.
//
//	Limiter, Meter   rates, and flows at the same time     limit.go
//	Counters         what passed, by peer                  stats.go
//	Queue, Relay     datagrams of one flow                 datagram.go
//	Group            the goroutines of one end             group.go
package traffic

import (
	"context"
	"sync"
)

// Group is a set of goroutines that end together. The zero value is ready.
type Group struct {
	running sync.WaitGroup

	mu      sync.Mutex
	ended   bool
	last    int
	cancels map[int]context.CancelFunc
}

// Go runs f in a goroutine of its own, with a context that ends when f returns, when stop is called
// or when the group ends. It reports false, without running f, when the group has ended already.
func (g *Group) Go(f func(context.Context)) (stop context.CancelFunc, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return func() {}, false
	}
	ctx, cancel := context.WithCancel(context.Background())
	if g.cancels == nil {
		g.cancels = map[int]context.CancelFunc{}
	}
	g.last++
	id := g.last
	g.cancels[id] = cancel
	g.running.Go(func() {
		defer g.done(id)
		f(ctx)
	})
	return cancel, true
}

func (g *Group) done(id int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cancels[id]()
	delete(g.cancels, id)
}

// End ends all goroutines of the group and waits for them. Go starts none after that. It may be
// called more than once.
func (g *Group) End() {
	g.mu.Lock()
	g.ended = true
	for _, cancel := range g.cancels {
		cancel()
	}
	g.mu.Unlock()
	g.running.Wait()
}
