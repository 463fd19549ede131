package appstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Join makes an endpoint of the mesh that is tested, which runs the app "suite" as construct makes
// it. It returns when the other endpoints can reach it.
type Join func(t *testing.T, name, user string, construct func(apps.Host) apps.App)

// Suite tests that a mesh keeps what [apps.Mesh], [apps.Flow], [apps.Host] and [apps.State]
// promise. The mesh in memory and the real one pass it both, so that what an app was tested with is
// what it runs on. Each test opens flows from one endpoint to another one, of another user.
func Suite(t *testing.T, join Join) {
	var n suiteNet
	for _, e := range []struct {
		end        **end
		name, user string
	}{{&n.a, "root", "root"}, {&n.b, "two", "bob"}} {
		*e.end = &end{t: t, serve: map[string]func(context.Context, apps.Flow){}}
		join(t, e.name, e.user, (*e.end).construct)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suiteNet)
	}{
		{"endpoints are listed as the filter says", suiteList},
		{"what an app offers is in the list", suiteOffers},
		{"an exit knows who asks for what", suitePeer},
		{"a flow carries bytes both ways and half-closes", suiteHalfClose},
		{"a reset is seen as a failure", suiteReset},
		{"a flow has no deadlines", suiteDeadlines},
		{"a flow outlives the context of its opening", suiteContext},
		{"an opening that is given up ends at the exit", suiteGivenUp},
		{"a refusal arrives as it was given", suiteRefusal},
		{"what is not there is not found", suiteMissing},
		{"datagrams arrive whole and in order", suiteDatagrams},
		{"cut ends the flows that match", suiteCut},
		{"a flow that was cut cannot be accepted", suiteCutEarly},
		{"what is saved is there", suiteState},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, &n) })
	}
}

// suiteNet is a mesh of two endpoints.
type suiteNet struct{ a, b *end }

// end is one endpoint with its app.
type end struct {
	t    *testing.T
	host apps.Host // set before Join returns

	mu    sync.Mutex
	serve map[string]func(context.Context, apps.Flow) // by the first segment of the path; guarded by mu
}

func (e *end) construct(h apps.Host) apps.App {
	e.host = h
	return suiteApp{e}
}

type suiteApp struct{ *end }

func (suiteApp) Name() string                  { return suiteName }
func (suiteApp) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (suiteApp) Left(func(apps.Peer) bool)     {}
func (suiteApp) API() http.Handler             { return http.NotFoundHandler() }

func (s suiteApp) Serve(ctx context.Context, f apps.Flow) {
	s.mu.Lock()
	serve := s.end.serve[f.Path()]
	s.mu.Unlock()
	if serve == nil {
		f.Refuse(answer.Errorf(answer.NotFound, "no path %s", f.Path()))
		return
	}
	serve(ctx, f)
}

// suiteName is the name of the app of [Suite].
const suiteName = "suite"

// on has the exit handle flows to a path with a function, until the test ends.
func (e *end) on(t *testing.T, path string, serve func(context.Context, apps.Flow)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.serve[path] = serve
	t.Cleanup(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.serve, path)
	})
}

// open opens a flow from a to b.
func (n *suiteNet) open(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := n.a.host.Mesh.Open(t.Context(), n.b.id(), suiteName+"/"+path, nil)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (e *end) id() identity.ID { return e.host.Mesh.Self().ID }

func suiteList(t *testing.T, n *suiteNet) {
	a, b := n.a.host.Mesh.Self(), n.b.host.Mesh.Self()
	if !a.Local || a.ID == b.ID || a.User == b.User {
		t.Fatalf("the endpoints are %+v and %+v", a, b)
	}
	for _, test := range []struct {
		name   string
		filter apps.Filter
		want   []string
	}{
		{"all, sorted by name", apps.Filter{}, []string{a.Name, b.Name}},
		{"by name", apps.Filter{Name: b.Name}, []string{b.Name}},
		{"by user", apps.Filter{User: a.User}, []string{a.Name}},
		{"by a part of the name", apps.Filter{Keyword: b.Name[len(b.Name)-3:]}, []string{b.Name}},
		{"online", apps.Filter{Online: true}, []string{a.Name, b.Name}},
		{"at most one", apps.Filter{Limit: 1}, []string{a.Name}},
		{"without the first", apps.Filter{Offset: 1}, []string{b.Name}},
		{"without any", apps.Filter{Offset: 9}, nil},
		{"nobody's", apps.Filter{User: "nobody"}, nil},
	} {
		list, err := n.a.host.Mesh.Endpoints(t.Context(), test.filter)
		var names []string
		for _, e := range list {
			names = append(names, e.Name)
			if e.Local != (e.ID == a.ID) || !e.Online {
				t.Errorf("%s: endpoint %s is local: %v, online: %v", test.name, e.Name, e.Local, e.Online)
			}
		}
		if !slices.Equal(names, test.want) || err != nil {
			t.Errorf("%s: got %v, %v, want %v", test.name, names, err, test.want)
		}
	}
}

func suiteOffers(t *testing.T, n *suiteNet) {
	offered := func(name string) bool {
		list, err := n.a.host.Mesh.Endpoints(t.Context(), apps.Filter{Offer: suiteName + "/" + name})
		return err == nil && len(list) == 1 && list[0].ID == n.b.id() && slices.Contains(list[0].Offers, suiteName+"/"+name)
	}
	n.b.host.Offer([]string{"tcp/x", "tcp/y"})
	Eventually(t, "both are offered", func() bool { return offered("tcp/x") && offered("tcp/y") })
	n.b.host.Offer([]string{"tcp/y"})
	Eventually(t, "one is not offered any longer", func() bool { return !offered("tcp/x") && offered("tcp/y") })
	n.b.host.Offer(nil)
}

func suitePeer(t *testing.T, n *suiteNet) {
	n.b.on(t, "who/am/I", func(_ context.Context, f apps.Flow) {
		if p := f.Peer(); p.ID != n.a.id() || p.User != n.a.host.Mesh.Self().User {
			t.Errorf("the peer is %+v", p)
		}
		if q := f.Query(); q.Get("a") != "ä&b" || len(q["c"]) != 2 {
			t.Errorf("the query is %v", q)
		}
		if c, err := f.Accept(); err == nil {
			c.Close()
		}
	})
	c, err := n.a.host.Mesh.Open(t.Context(), n.b.id(), suiteName+"/who/am/I", url.Values{"a": {"ä&b"}, "c": {"1", "2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("the end came as %q, %v", got, err)
	}
}

// closeWriter is what flows can, see [apps.Mesh.Open].
type closeWriter interface{ CloseWrite() error }

type resetter interface{ Reset() error }

func suiteHalfClose(t *testing.T, n *suiteNet) {
	n.b.on(t, "echo", func(_ context.Context, f apps.Flow) {
		c, err := f.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, err := io.ReadAll(c) // up to the peer's half-close
		if err != nil {
			t.Errorf("the exit read %d bytes and %v", len(all), err)
		}
		c.Write(all)
	})
	c := n.open(t, "echo")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	go func() { // ends when all is written or the flow is closed
		c.Write(data)
		c.(closeWriter).CloseWrite()
	}()
	if got, err := io.ReadAll(c); !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes and %v came back, want the %d that were sent", len(got), err, len(data))
	}
}

func suiteReset(t *testing.T, n *suiteNet) {
	seen := make(chan error, 1) // by the exit
	n.b.on(t, "reset", func(_ context.Context, f apps.Flow) {
		c, err := f.Accept()
		if err != nil {
			return
		}
		if f.Query().Has("here") {
			io.ReadFull(c, make([]byte, 1))
			c.(resetter).Reset()
			return
		}
		_, err = io.Copy(io.Discard, c)
		c.Close()
		seen <- err
	})
	n.open(t, "reset").(resetter).Reset()
	if err := <-seen; err == nil {
		t.Error("the exit saw an end")
	}
	c, err := n.a.host.Mesh.Open(t.Context(), n.b.id(), suiteName+"/reset", url.Values{"here": {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("x"))
	if _, err := io.Copy(io.Discard, c); err == nil {
		t.Error("the entrance saw an end")
	}
}

// echoing accepts flows and echoes what comes.
func (e *end) echoing(t *testing.T, path string) {
	e.on(t, path, func(_ context.Context, f apps.Flow) {
		if c, err := f.Accept(); err == nil {
			io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			c.Close()
		}
	})
}

// alive fails the test if a flow to an echo carries nothing.
func alive(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func suiteDeadlines(t *testing.T, n *suiteNet) {
	n.b.echoing(t, "echo")
	c := n.open(t, "echo")
	if c.SetDeadline(time.Unix(1, 0)) == nil || c.SetReadDeadline(time.Unix(1, 0)) == nil || c.SetWriteDeadline(time.Unix(1, 0)) == nil {
		t.Error("a deadline was taken")
	}
	alive(t, c)
}

func suiteContext(t *testing.T, n *suiteNet) {
	n.b.echoing(t, "echo")
	ctx, cancel := context.WithCancel(t.Context())
	c, err := n.a.host.Mesh.Open(ctx, n.b.id(), suiteName+"/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	alive(t, c)
}

func suiteGivenUp(t *testing.T, n *suiteNet) {
	asked, over := make(chan struct{}), make(chan struct{})
	n.b.on(t, "slow", func(ctx context.Context, f apps.Flow) {
		close(asked)
		<-ctx.Done()
		close(over)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with the question
		<-asked
		cancel()
	}()
	if _, err := n.a.host.Mesh.Open(ctx, n.b.id(), suiteName+"/slow", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	<-over
}

func suiteRefusal(t *testing.T, n *suiteNet) {
	for _, test := range []struct {
		path string
		err  error
		code answer.Code
		text string
	}{
		{"busy", answer.Errorf(answer.Limit, "later, ünd not \"now\""), answer.Limit, "later, ünd not \"now\""},
		{"fault", errors.New("a secret of the exit"), answer.Internal, ""},
	} {
		n.b.on(t, test.path, func(_ context.Context, f apps.Flow) { f.Refuse(test.err) })
		_, err := n.a.host.Mesh.Open(t.Context(), n.b.id(), suiteName+"/"+test.path, nil)
		if answer.CodeOf(err) != test.code || test.text != "" && err.Error() != test.text {
			t.Errorf("%s: got %s %v", test.path, answer.CodeOf(err), err)
		}
		if test.text == "" && bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("the text of a fault reached the peer: %v", err)
		}
	}
	n.b.on(t, "silent", func(context.Context, apps.Flow) {})
	if _, err := n.a.host.Mesh.Open(t.Context(), n.b.id(), suiteName+"/silent", nil); err == nil {
		t.Error("an app that returns without an answer accepted")
	}
}

func suiteMissing(t *testing.T, n *suiteNet) {
	for _, test := range []struct {
		name, path string
		to         identity.ID
	}{
		{"path", suiteName + "/nowhere", n.b.id()},
		{"app", "none/x", n.b.id()},
		{"endpoint", suiteName + "/x", identity.IDOf([]byte("nobody"))},
	} {
		_, err := n.a.host.Mesh.Open(t.Context(), test.to, test.path, nil)
		if code := answer.CodeOf(err); code != answer.NotFound && code != answer.Unavailable {
			t.Errorf("%s: got %s %v", test.name, code, err)
		}
	}
}

func suiteDatagrams(t *testing.T, n *suiteNet) {
	sizes := []int{1, 1200, 0, 20, apps.MaxDatagram, 2}
	n.b.on(t, "datagrams", func(_ context.Context, f apps.Flow) {
		c, err := f.AcceptDatagrams()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, apps.MaxDatagram)
		for range sizes {
			size, err := c.Read(buf)
			if err != nil {
				t.Error(err)
				return
			}
			c.Write(buf[:size])
		}
		io.Copy(io.Discard, c)
	})
	c, err := n.a.host.Mesh.OpenDatagrams(t.Context(), n.b.id(), suiteName+"/datagrams", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, apps.MaxDatagram+1)); err == nil {
		t.Error("a datagram over the maximum was taken")
	}
	buf := make([]byte, apps.MaxDatagram+1)
	for i, size := range sizes { // one after the other: more at once may be dropped
		p := bytes.Repeat([]byte{byte(i)}, size)
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(buf); !bytes.Equal(buf[:got], p) || err != nil {
			t.Fatalf("datagram %d of %d bytes came back with %d, %v", i, size, got, err)
		}
	}
}

func suiteCut(t *testing.T, n *suiteNet) {
	n.b.echoing(t, "one")
	n.b.echoing(t, "two")
	one, two := n.open(t, "one"), n.open(t, "two")
	alive(t, one)
	alive(t, two)
	n.b.host.Cut(func(p apps.Peer, path string) bool { return p.ID == n.a.id() && path == "one" })
	if _, err := one.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the flow that was cut ended with %v, want a failure", err)
	}
	alive(t, two)
}

func suiteCutEarly(t *testing.T, n *suiteNet) {
	n.b.on(t, "early", func(ctx context.Context, f apps.Flow) {
		n.b.host.Cut(func(_ apps.Peer, path string) bool { return path == "early" })
		<-ctx.Done()
		if _, err := f.Accept(); err == nil {
			t.Error("a flow that was cut was accepted")
		}
	})
	if _, err := n.a.host.Mesh.Open(t.Context(), n.b.id(), suiteName+"/early", nil); err == nil {
		t.Error("a flow that was cut was opened")
	}
}

func suiteState(t *testing.T, n *suiteNet) {
	s := n.a.host.State
	var got []string
	if there, err := s.Load("none", &got); there || err != nil {
		t.Errorf("what was not saved is there: %v, %v", there, err)
	}
	for _, key := range []string{"b/2", "b/1", "a/3"} {
		if err := s.Save(key, []string{key}); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := s.Load("b/1", &got); !there || err != nil || !slices.Equal(got, []string{"b/1"}) {
		t.Errorf("got %v, %v, %v", there, err, got)
	}
	if err := s.Delete("a/3"); err != nil {
		t.Error(err)
	}
	if err := s.Delete("none"); err != nil {
		t.Errorf("what was not there was not deleted: %v", err)
	}
	for prefix, want := range map[string][]string{"b/": {"b/1", "b/2"}, "a/": nil} {
		if keys, err := s.Keys(prefix); !slices.Equal(keys, want) || err != nil {
			t.Errorf("keys of %q: %v, %v", prefix, keys, err)
		}
	}
	if keys, err := n.b.host.State.Keys("b/"); len(keys) > 0 || err != nil {
		t.Errorf("another endpoint has %v, %v", keys, err)
	}
}
