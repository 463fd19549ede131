package entrance

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// countingMesh counts the searches.
type countingMesh struct {
	apps.Mesh
	searches, opens, probes atomic.Int32

	hold chan struct{} // closed to let the first search go on
}

func (m *countingMesh) Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	if m.searches.Add(1) == 1 && m.hold != nil {
		<-m.hold
		return nil, errors.New("the hub is down")
	}
	return m.Mesh.Endpoints(ctx, f)
}

func (m *countingMesh) Open(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	m.opens.Add(1)
	if q.Has(spec.ProbeParam) {
		m.probes.Add(1)
	}
	return m.Mesh.Open(ctx, to, path, q)
}

// fakeExit is the tunnel app of an endpoint that offers tcp/web and answers its flows with err, or
// accepts them.
type fakeExit struct {
	apps.Host
	err error
}

func (fakeExit) Name() string              { return spec.AppName }
func (fakeExit) Left(func(apps.Peer) bool) {}
func (fakeExit) API() http.Handler         { return http.NotFoundHandler() }

func (x fakeExit) Run(ctx context.Context) error {
	x.Offer([]string{"tcp/web"})
	<-ctx.Done()
	return nil
}

func (x fakeExit) Serve(_ context.Context, f apps.Flow) {
	if x.err != nil {
		f.Refuse(x.err)
	} else if c, err := f.Accept(); err == nil {
		c.Close()
	}
}

// joinExit adds an endpoint with a fakeExit to a mesh, and returns it with what its app would get.
func joinExit(t *testing.T, n *appstest.Net, name, user string, err error) (e *appstest.Host, h apps.Host) {
	t.Helper()
	e = n.Join(name, user)
	e.Start(t, spec.AppName, func(host apps.Host) apps.App {
		h = host
		return fakeExit{host, err}
	})
	appstest.Eventually(t, name+" offers its tunnel", func() bool { return len(e.Self().Offers) > 0 })
	return e, h
}

func TestConnectionsShareASearchButNotItsFailure(t *testing.T) {
	var n appstest.Net
	_, h := joinExit(t, &n, "b", "bob", nil)
	m := &countingMesh{Mesh: n.Join("a", "alice"), hold: make(chan struct{})}
	e := &exits{mesh: m, state: h.State, key: spec.Key{Protocol: spec.TCP, Name: "web"}}

	first := make(chan error, 1)
	go func() {
		_, err := e.find(t.Context())
		first <- err
	}()
	appstest.Eventually(t, "the first search is under way", func() bool { return m.searches.Load() == 1 })
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() {
			if ids, err := e.find(t.Context()); err != nil || len(ids) != 1 {
				t.Errorf("found %v, %v", ids, err)
			}
		})
	}
	close(m.hold)
	others.Wait()
	if err := <-first; err == nil {
		t.Error("the first search did not fail")
	}
	if n := m.searches.Load(); n > 3 {
		t.Errorf("%d searches for 21 connections at once", n)
	}
	before := m.probes.Load()
	if _, err := e.find(t.Context()); err != nil || m.probes.Load() != before {
		t.Error("an answer a moment old was not used again")
	}
}

// What each connection costs others, a client in a loop could take from them.
func TestClientInALoopDoesNotAskForEachConnection(t *testing.T) {
	for _, test := range []struct {
		name  string
		named bool // the exit is
		user  string
	}{
		{"the target refuses", false, "alice"}, {"the target of a named exit refuses", true, "alice"}, {"nobody allows it", false, "bob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var n appstest.Net
			b, h := joinExit(t, &n, "b", test.user, answer.Errorf(answer.Refused, "refused"))
			m := &countingMesh{Mesh: n.Join("a", "alice")}
			config := spec.Inbound{Key: spec.Key{Protocol: spec.TCP, Name: "web"}}
			if test.named {
				config.Exits = []identity.ID{b.Self().ID}
			}
			h.Mesh = m
			in := New(h, config)
			for range 1000 {
				if _, _, err := in.reach(t.Context(), m.Open, url.Values{}); err == nil {
					t.Fatal("it was reached")
				}
			}
			if asked := m.searches.Load() + m.opens.Load(); asked > 100 {
				t.Errorf("1000 clients in a row made %d questions", asked)
			}
		})
	}
}

func TestAClientInALoopWritesFewLines(t *testing.T) {
	var n appstest.Net
	var log bytes.Buffer
	_, h := joinExit(t, &n, "b", "alice", nil)
	h.Log = slog.New(slog.NewTextHandler(&log, nil))
	in := New(h, spec.Inbound{Key: spec.Key{Protocol: spec.TCP, Name: "web"}})
	for range 2000 {
		in.turnAway(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "", answer.Errorf(answer.NotFound, "no endpoint"))
	}
	if lines := bytes.Count(log.Bytes(), []byte("\n")); lines < 1 || lines > 30 {
		t.Errorf("2000 clients made %d lines", lines)
	}
	if got := in.Status().Stats.Errors[answer.NotFound]; got != 2000 {
		t.Errorf("%d were counted", got)
	}
}
