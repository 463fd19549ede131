package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
	"ztm/tunnel/unixtime"
)

// crowd is the simulated agents.
type crowd struct {
	hubs     []string // addresses; each agent has sessions with slots of them
	slots    int
	verifier *identity.Verifier
	agents   []*agent
	atOnce   chan struct{} // a token for each agent that connects for the first time
	online   atomic.Int64
	failed   atomic.Int64 // attempts
	why      atomic.Value // error of the last of them
	stop     context.CancelFunc
	wg       sync.WaitGroup // their lives

	dialBack func(context.Context, *agent, tunnel.Event) // answers one; nil: nobody does. Static
}

// agent is one of them.
type agent struct {
	name string
	key  ed25519.PrivateKey
	id   identity.ID
	cert tls.Certificate

	session atomic.Pointer[tunnel.Session] // nil while it is not online

	mu    sync.Mutex
	order []string // of hubs, another one for each agent; one that failed goes to the end
	at    []string // the hub of each slot
}

func (a *agent) certificate() tls.Certificate { return a.cert }

// usersOf is how many agents a user has: the hub allows so many, and more.
const usersOf = 100

// newCrowd makes the keys and certificates of n agents with the CA key of a root permit.
func newCrowd(permit string, n int) (*crowd, error) {
	b, err := os.ReadFile(permit)
	if err != nil {
		return nil, err
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		return nil, err
	}
	ca, err := identity.ParseCA([]byte(p.CA), []byte(p.CAKey))
	if err != nil {
		return nil, err
	}
	trust, err := identity.NewTrust([]byte(p.CA))
	if err != nil {
		return nil, err
	}
	c := &crowd{hubs: p.Bootstraps[:1], slots: 1, verifier: identity.NewVerifier(trust, identity.NewClock()), atOnce: make(chan struct{}, 64)}
	now := time.Now()
	for i := range n {
		key, err := identity.NewKey()
		if err != nil {
			return nil, err
		}
		public := key.Public().(ed25519.PublicKey)
		der, err := ca.SignMember(public, fmt.Sprint("user-", i/usersOf), now, now)
		if err != nil {
			return nil, err
		}
		c.agents = append(c.agents, &agent{name: fmt.Sprint("agent-", i), key: key, id: identity.IDOf(public), cert: identity.TLSCertificate(der, key)})
	}
	return c, nil
}

// want returns nil if so many agents are online.
func (c *crowd) want(n int) error {
	if got := int(c.online.Load()); n == 0 && got > 0 || got < n {
		return fmt.Errorf("%d agents are online, want %d", got, n)
	}
	return nil
}

// connect begins the lives of all agents and returns when all are online.
func (c *crowd) connect(ctx context.Context) error {
	life, stop := context.WithCancel(ctx)
	c.stop = stop
	var first sync.WaitGroup
	for _, a := range c.agents {
		select {
		case c.atOnce <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		a.order, a.at = slices.Clone(c.hubs), make([]string, c.slots)
		rand.Shuffle(len(a.order), func(i, j int) { a.order[i], a.order[j] = a.order[j], a.order[i] })
		var slots sync.WaitGroup
		for slot := range c.slots {
			slots.Add(1)
			ready := sync.OnceFunc(slots.Done)
			c.wg.Go(func() {
				defer ready()
				c.live(life, a, slot, ready)
			})
		}
		first.Go(func() { slots.Wait(); <-c.atOnce })
	}
	first.Wait()
	return ctx.Err()
}

// choose returns the hub for a slot: the first that no other slot has. One that failed is asked last.
func (a *agent) choose(slot int, failed string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.order, failed); i >= 0 {
		a.order = append(slices.Delete(a.order, i, i+1), failed)
	}
	a.at[slot] = ""
	for _, hub := range a.order {
		if !slices.Contains(a.at, hub) {
			a.at[slot] = hub
			break
		}
	}
	return a.at[slot]
}

// live keeps a slot of an agent online as the real one does: see package agent/control.
func (c *crowd) live(ctx context.Context, a *agent, slot int, ready func()) {
	const first, refused, most = 500 * time.Millisecond, 4 * time.Second, 30 * time.Second
	delay, hub := time.Duration(0), ""
	for {
		hub = a.choose(slot, hub)
		online, err := c.session(ctx, a, hub, ready)
		if ctx.Err() != nil {
			return
		}
		if !online {
			c.failed.Add(1)
			c.why.Store(fmt.Errorf("%s: %w", a.name, err))
		}
		switch {
		case online || delay == 0:
			delay = first
		case errors.Is(err, syscall.ECONNREFUSED):
			delay = min(2*delay, refused)
		default:
			delay = min(2*delay, most)
		}
		if !pause.For(ctx, rand.N(delay)) {
			return
		}
	}
}

// session is one control session from its beginning to its end.
func (c *crowd) session(ctx context.Context, a *agent, hub string, ready func()) (online bool, err error) {
	s, err := tunnel.Open(ctx, &tunnel.Dialer{}, hub, c.verifier.ClientConfig(a.cert, identity.RoleHub, "", tunnel.ControlProto))
	if err != nil {
		return false, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	record := identity.Record{ID: a.id, Name: a.name, Offers: []string{"tunnel/tcp/ssh"}, Version: "simulated", Time: unixtime.MillisOf(time.Now()), Certificate: a.cert.Certificate[0]}
	doc, err := identity.SignRecord(record, a.key)
	if err != nil {
		return false, err
	}
	if err := s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(a.id), nil, doc, nil); err != nil {
		return false, err
	}
	err = s.Events(ctx, func(e tunnel.Event) {
		if e.Type == tunnel.EventReady && !online {
			online = true
			c.online.Add(1)
			a.session.Store(s)
			ready()
		}
		if e.Type == tunnel.EventDialBack && c.dialBack != nil {
			c.wg.Go(func() { c.dialBack(ctx, a, e) })
		}
	})
	if online {
		a.session.CompareAndSwap(s, nil)
		c.online.Add(-1)
	}
	return online, err
}

// lookUp has agents look each other up by name for a while, and returns how often that worked.
func (c *crowd) lookUp(ctx context.Context, length time.Duration) (found int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var total atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				asker, name := c.agents[rand.IntN(len(c.agents))], c.agents[rand.IntN(len(c.agents))].name
				s := asker.session.Load()
				if s == nil {
					continue
				}
				var page tunnel.Page
				callErr := s.Call(ctx, http.MethodGet, tunnel.PathEndpoints, url.Values{"name": {name}}, nil, &page)
				if callErr == nil && (len(page.Entries) != 1 || !strings.Contains(string(page.Entries[0].Record), name)) {
					callErr = fmt.Errorf("%d endpoints named %s", len(page.Entries), name)
				}
				if callErr == nil {
					total.Add(1)
				} else if ctx.Err() == nil {
					mu.Lock()
					err = callErr
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return total.Load(), err
}

// leave ends the lives of all agents.
func (c *crowd) leave() {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
}
