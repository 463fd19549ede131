package peers

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/audit"
	"ztm/agent/direct"
	"ztm/agent/limits"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	meeting "ztm/tunnel/direct"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/memory"
	"ztm/tunnel/seal"
	"ztm/tunnel/suspicion"
	"ztm/tunnel/tuning"
)

// half is one direction of a connection that never makes a writer wait, as a socket does not for so
// little. It can be halted: what was written waits, and nobody is told.
type half struct {
	mu     sync.Mutex
	change *sync.Cond
	queue  []byte // guarded by mu
	halted bool   // guarded by mu
	closed bool   // guarded by mu
}

func newHalf() *half {
	h := &half{}
	h.change = sync.NewCond(&h.mu)
	return h
}

func (h *half) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.change.Broadcast()
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.closed && (h.halted || len(h.queue) == 0) {
		h.change.Wait()
	}
	if h.halted || len(h.queue) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.queue)
	h.queue = h.queue[n:]
	return n, nil
}

// line is a connection made of two halves.
type line struct {
	net.Conn // for addresses
	in, out  *half
}

func newLine() (near, far *line) {
	a, b := newHalf(), newHalf()
	x, y := net.Pipe()
	return &line{x, a, b}, &line{y, b, a}
}

func (l *line) Read(p []byte) (int, error)       { return l.in.read(p) }
func (l *line) SetDeadline(time.Time) error      { return nil }
func (l *line) SetReadDeadline(time.Time) error  { return nil }
func (l *line) SetWriteDeadline(time.Time) error { return nil }

func (l *line) Write(p []byte) (int, error) {
	err := error(nil)
	l.out.set(func() {
		if l.out.closed {
			err = io.ErrClosedPipe
		}
		l.out.queue = append(l.out.queue, p...)
	})
	return len(p), err
}

func (l *line) Close() error {
	l.in.set(func() { l.in.closed = true })
	l.out.set(func() { l.out.closed = l.out.closed || !l.out.halted }) // the end waits as well
	return l.Conn.Close()
}

// twoHubs are the ways from one Peers to another, by hub.
type twoHubs struct {
	from identity.ID
	to   *Peers
	hubs []identity.ID // that can be gone through, the best first
	mode direct.Mode   // of both; "": off
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[identity.ID][]*line // guarded by mu
	other func(far net.Conn)      // what serves new paths; nil: to; guarded by mu
	away  bool                    // the hub gets no sign of life of to; guarded by mu
}

func (h *twoHubs) Path(ctx context.Context, _ identity.ID, _ bool, avoid identity.ID) (net.Conn, identity.ID, error) {
	hub := h.hubs[0]
	if hub == avoid && len(h.hubs) > 1 {
		hub = h.hubs[1]
	}
	near, far := newLine()
	h.mu.Lock()
	if h.away {
		h.mu.Unlock()
		<-time.After(3500 * time.Millisecond)
		return nil, "", answer.Errorf(answer.Timeout, "endpoint bob does not answer")
	}
	h.conns[hub] = append(h.conns[hub], near)
	serve := h.other
	h.mu.Unlock()
	if serve == nil {
		serve = func(far net.Conn) { h.to.Accept(h.to.Life, far, h.from, "", hub) }
	}
	h.wg.Go(func() { serve(far) })
	return near, hub, nil
}

func (h *twoHubs) Another(than identity.ID) bool {
	return slices.ContainsFunc(h.hubs, func(id identity.ID) bool { return id != than })
}

func (h *twoHubs) Suspect(identity.ID) bool { return false }
func (h *twoHubs) Left(netip.Addr)          {}

func (h *twoHubs) Watch(ctx context.Context, _ identity.ID) (context.Context, func()) {
	return ctx, func() {}
}

// paths is how many were opened through the first one.
func (h *twoHubs) paths() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns[h.hubs[0]])
}

// halt has what goes through a hub wait, towards us or both ways, until it is let go.
func (h *twoHubs) halt(hub identity.ID, both bool) (letGo func()) {
	h.mu.Lock()
	lines := slices.Clone(h.conns[hub])
	h.mu.Unlock()
	set := func(halted bool) {
		for _, c := range lines {
			c.in.set(func() { c.in.halted = halted })
			if both {
				c.out.set(func() { c.out.halted = halted })
			}
		}
	}
	set(true)
	return sync.OnceFunc(func() { set(false) })
}

// counting is an app that counts its flows, and echoes each after a while.
type counting struct {
	after time.Duration

	mu   sync.Mutex
	runs int // guarded by mu
}

func (*counting) Name() string              { return "count" }
func (*counting) Run(context.Context) error { return nil }
func (*counting) Left(func(apps.Peer) bool) {}
func (*counting) API() http.Handler         { return http.NotFoundHandler() }
func (c *counting) ran() int                { c.mu.Lock(); defer c.mu.Unlock(); return c.runs }

func (c *counting) Serve(ctx context.Context, f apps.Flow) {
	c.mu.Lock()
	c.runs++
	c.mu.Unlock()
	<-time.After(c.after)
	conn, err := f.Accept()
	if err != nil {
		return
	}
	io.Copy(conn, conn)
	conn.Close()
}

// pairOf are two Peers, the second of which has an app, and the hubs between them.
func pairOf(t *testing.T, app *counting, hubs ...identity.ID) (a *Peers, h *twoHubs, end func()) {
	t.Helper()
	authority := newAuthority(t)
	life, stop := context.WithCancel(context.Background())
	make := func(user string, through Hubs) *Peers {
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		der, err := authority.ca.SignMember(key.Public().(ed25519.PublicKey), user, authority.now, authority.now)
		if err != nil {
			t.Fatal(err)
		}
		cert := identity.TLSCertificate(der, key)
		log := slog.New(slog.DiscardHandler)
		return New(Config{
			Self: identity.IDOf(key.Public().(ed25519.PublicKey)), Endpoint: func() apps.Endpoint { return apps.Endpoint{Name: user, User: user} }, Certificate: func() tls.Certificate { return cert },
			Verifier: identity.NewVerifier(authority.trust, identity.NewClock()), Log: log, PeerLog: limit.NewLog(log), Limits: limits.Within(memory.Limit{}),
			Work: &inflight.Tracker{}, Life: life, Hubs: through, Audit: func(audit.Line) {}, Answered: func(flow.Session, *http.Response) {},
			Await: func(context.Context, string, string, string) {}, Judge: func(apps.Peer, string, string, string) error { return nil },
			Rule: func(apps.Peer, string, string, string) string { return "" }, AtOnce: func(string) bool { return false }, Mark: func(http.Header) {},
			Answer:  func(w http.ResponseWriter, _ *http.Request, _ identity.Subject) { w.WriteHeader(http.StatusNoContent) },
			Mode:    func() direct.Mode { return cmp.Or(h.mode, direct.Off) },
			Network: &meeting.Network{Addresses: func() (i meeting.Interfaces, err error) { return i, nil }},
		})
	}
	h = &twoHubs{hubs: hubs, conns: map[identity.ID][]*line{}}
	a, h.to = make("ann", h), make("bob", nil)
	h.from = a.Self
	h.to.Serve(map[string]apps.App{"count": app})
	return a, h, func() {
		stop()
		a.Close()
		h.to.Close()
		<-a.Work.Close()
		<-h.to.Work.Close()
		h.wg.Wait()
	}
}

// opens opens a flow, wants an echo, and says how long that took.
func opens(t *testing.T, a *Peers, to identity.ID) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	c, err := a.Open(t.Context(), Opening{To: to, Path: "count/x"})
	took := time.Since(began)
	if err != nil {
		return took, err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return took, err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return took, err
}

func TestAFlowThatHasNoAnswerGoesThroughAnotherHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{}
		a, h, end := pairOf(t, app, "one", "two")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", true)
		defer letGo()
		if took, err := opens(t, a, h.to.Self); err != nil || took > time.Second {
			t.Errorf("while a hub hangs, after %v: %v", took, err)
		}
		if took, err := opens(t, a, h.to.Self); err != nil || took > 10*time.Millisecond {
			t.Errorf("the next one, after %v: %v", took, err)
		}
		<-time.After(2 * suspicion.MaxSilence)
		if n := a.Warm(h.to.Self); n != 1 {
			t.Errorf("%d sessions stand", n)
		}
		letGo()
		synctest.Wait()
		if app.ran() != 3 {
			t.Errorf("of three flows %d ran", app.ran())
		}
	})
}

func TestAFlowWhoseAnswerIsLostRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{}
		a, h, end := pairOf(t, app, "one", "two")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", false) // the request gets through
		defer letGo()
		if _, err := opens(t, a, h.to.Self); answer.CodeOf(err) != answer.Conflict {
			t.Errorf("the flow that had begun: %v", err)
		}
		if app.ran() != 2 {
			t.Errorf("of two flows %d ran", app.ran())
		}
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

func TestAnExitThatIsSlowIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{after: 10 * time.Second}
		a, h, end := pairOf(t, app, "one", "two")
		defer end()
		if took, err := opens(t, a, h.to.Self); err != nil || took < app.after || took > app.after+time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if app.ran() != 1 || a.Warm(h.to.Self) != 1 {
			t.Errorf("%d flows ran, %d sessions stand", app.ran(), a.Warm(h.to.Self))
		}
	})
}

func TestWithOneHubAFlowWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{}
		a, h, end := pairOf(t, app, "one")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", true)
		time.AfterFunc(3*time.Second, letGo)
		if took, err := opens(t, a, h.to.Self); err != nil || took < 3*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		if a.Warm(h.to.Self) != 1 {
			t.Errorf("%d sessions stand", a.Warm(h.to.Self))
		}
	})
}

func TestAQuestionThatHasNoAnswerIsAskedThroughAnotherHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h, end := pairOf(t, &counting{}, "one", "two")
		defer end()
		if _, err := a.Ping(t.Context(), h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", true)
		defer letGo()
		began := time.Now()
		_, err := a.Ping(t.Context(), h.to.Self)
		if took := time.Since(began); err != nil || took > time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		// A request that changes something is not sent twice.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		h.hubs[0], h.hubs[1] = h.hubs[1], h.hubs[0]
		stuck := h.halt("two", true)
		defer stuck()
		if _, err := a.Ask(ctx, h.to.Self, http.MethodPost, "/v1/x", nil); err == nil || errors.Is(err, suspicion.Err) {
			t.Errorf("a request that changes something: %v", err)
		}
	})
}

func TestASessionForOneQuestionEndsWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h, end := pairOf(t, &counting{}, "one")
		defer end()
		ask := func() {
			t.Helper()
			resp, err := a.AskOnce(t.Context(), h.to.Self, http.MethodPut, "/v1/x", []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			<-time.After(5 * time.Second)
		}
		open := func() int {
			h.to.mu.Lock()
			defer h.to.mu.Unlock()
			return len(h.to.inbound)
		}
		ask()
		if n := open(); n != 0 || a.Warm(h.to.Self) != 0 {
			t.Errorf("%d sessions are open", n)
		}
		if _, err := a.Ping(t.Context(), h.to.Self); err != nil {
			t.Fatal(err)
		}
		ask()
		if n := open(); n != 1 || a.Warm(h.to.Self) != 1 {
			t.Errorf("%d sessions are open, want the one that was warm", n)
		}
	})
}

// echo sends bytes, and wants as many back.
func echo(c net.Conn, n int) error {
	sent := make(chan error, 1)
	go func() { // awaited below
		_, err := c.Write(make([]byte, n))
		sent <- err
	}()
	_, err := io.ReadFull(c, make([]byte, n))
	return errors.Join(err, <-sent)
}

// untilOffloaded uses a flow until it has a connection of its own.
func untilOffloaded(t *testing.T, a *Peers, c net.Conn, to identity.ID) {
	t.Helper()
	for a.Traffic()[to].Offloaded == 0 {
		if err := echo(c, 1<<20); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
	}
}

func TestWhatWasOffloadedThroughAHubEndsWithIt(t *testing.T) {
	for what, hangs := range map[string]bool{"the hub hangs": true, "its control session alone broke": false} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func() { <-time.After(time.Minute) }() // connections that are closed wait for their peers
				a, h, end := pairOf(t, &counting{}, "one", "two")
				defer end()
				c, err := a.Open(t.Context(), Opening{To: h.to.Self, Path: "count/x"})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				untilOffloaded(t, a, c, h.to.Self)
				letGo := func() {}
				if hangs {
					letGo = h.halt("one", true)
				}
				defer letGo()
				began := time.Now()
				a.Lost("one")
				err = nil
				for err == nil && time.Since(began) < time.Minute {
					err = echo(c, 1)
					<-time.After(time.Second)
				}
				if took := time.Since(began); (err != nil) != hangs || hangs && took > 3*suspicion.MaxSilence {
					t.Errorf("after %v the flow says %v", took, err)
				}
			})
		})
	}
}

// A round may end at the moment in which the mode changes: either the change finds its session, or the
// session finds the change.
func TestASessionThatBecomesDirectTooLateTakesNoFlows(t *testing.T) {
	for name, modes := range map[string][]direct.Mode{
		"allowed":                          {direct.Auto},
		"turned off before it came":        {direct.Off},
		"turned off as it came":            {direct.Auto, direct.Off},
		"its own network only, as it came": {direct.Auto, direct.LAN},
	} {
		t.Run(name, func(t *testing.T) {
			a, h, end := pairOf(t, &counting{}, "one")
			defer end()
			var asked atomic.Int64
			h.to.Mode = func() direct.Mode { return modes[min(int(asked.Add(1)), len(modes))-1] }
			near, far := newLine()
			client := h2.Client(far, tuning.Sealed(0))
			defer client.Close()
			peer, err := h.to.Verifier.Certificate(a.Certificate().Certificate[0], identity.RoleMember)
			if err != nil {
				t.Fatal(err)
			}
			h.to.met(&seal.Accepted{Peer: peer, Session: near}, meeting.Candidate{Kind: meeting.Punched})
			if len(modes) == 1 && modes[0] == direct.Auto {
				if _, err := client.Ping(t.Context()); err != nil || client.Reserve() != nil {
					t.Errorf("it takes no flows: %v", err)
				}
				return
			}
			appstest.Eventually(t, "it takes no flows", func() bool {
				if client.Reserve() != nil {
					return true
				}
				client.Release()
				return false
			})
		})
	}
}
