package appstest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// app is an app that handles flows with a function.
type app func(context.Context, apps.Flow)

func (app) Name() string                             { return "app" }
func (app) Run(ctx context.Context) error            { <-ctx.Done(); return nil }
func (a app) Serve(ctx context.Context, f apps.Flow) { a(ctx, f) }
func (app) Left(func(apps.Peer) bool)                {}
func (app) API() http.Handler                        { return http.NotFoundHandler() }
func serve(h *Host, f func(context.Context, apps.Flow)) {
	h.New("app", func(apps.Host) apps.App { return app(f) })
}

// hold accepts a flow, tells the test and keeps it until it ends.
func hold(accepted chan<- net.Conn) func(context.Context, apps.Flow) {
	return func(ctx context.Context, f apps.Flow) {
		c, err := f.Accept()
		if err != nil {
			return
		}
		accepted <- c
		<-ctx.Done()
	}
}

func TestCutResetsTheFlowsThatMatch(t *testing.T) {
	var n Net
	a, b := n.Join("a", "alice"), n.Join("b", "bob")
	accepted := make(chan net.Conn, 2)
	serve(b, hold(accepted))
	var conns []net.Conn
	nears := map[string]net.Conn{}
	for _, path := range []string{"app/one", "app/two"} {
		c, err := a.Open(t.Context(), b.Self().ID, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		nears[path[len("app/"):]] = <-accepted
	}

	b.cut("app", func(p apps.Peer, path string) bool { return p.User == "alice" && path == "one" })

	if _, err := conns[0].Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the flow that was cut ended with %v, want a reset", err)
	}
	nears["two"].Write([]byte("x"))
	if _, err := conns[1].Read(make([]byte, 1)); err != nil {
		t.Errorf("the other flow ended with %v", err)
	}
	b.SetOnline(false)
	if _, err := conns[1].Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after going offline the flow ended with %v, want a reset", err)
	}
}

func TestFlowThatIsCutBeforeItIsAcceptedCannotBeAccepted(t *testing.T) {
	var n Net
	a, b := n.Join("a", "alice"), n.Join("b", "bob")
	result := make(chan error, 1)
	serve(b, func(ctx context.Context, f apps.Flow) {
		b.cut("app", func(apps.Peer, string) bool { return true })
		<-ctx.Done()
		_, err := f.Accept()
		result <- err
	})
	if _, err := a.Open(t.Context(), b.Self().ID, "app/x", nil); answer.CodeOf(err) != answer.Broken {
		t.Errorf("open: %v, want %s", err, answer.Broken)
	}
	if err := <-result; err == nil {
		t.Error("accept succeeded")
	}
}

// The real mesh passes the same suite, in the tests of the root package.
func TestTheMeshInMemoryKeepsWhatAMeshPromises(t *testing.T) {
	var n Net
	Suite(t, func(t *testing.T, name, user string, construct func(apps.Host) apps.App) {
		n.Join("ep-"+name, user).Start(t, suiteName, construct)
	})
}

func TestRefusalOfAnUnknownErrorHidesItsText(t *testing.T) {
	var n Net
	a, b := n.Join("a", "alice"), n.Join("b", "bob")
	serve(b, func(_ context.Context, f apps.Flow) { f.Refuse(errors.New("secret")) })
	_, err := a.Open(t.Context(), b.Self().ID, "app/x", nil)
	if answer.CodeOf(err) != answer.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestDatagramsKeepTheirBoundaries(t *testing.T) {
	near, far, err := Pair("udp")
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{1, 0, apps.MaxDatagram, 20}
	for _, n := range sizes {
		if _, err := near.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := near.Write(make([]byte, apps.MaxDatagram+1)); err == nil {
		t.Error("a datagram over the maximum was taken")
	}
	near.Close()
	buf := make([]byte, apps.MaxDatagram)
	for _, want := range sizes {
		if n, err := far.Read(buf); n != want || err != nil {
			t.Errorf("read %d bytes, %v; want %d", n, err, want)
		}
	}
	if _, err := far.Read(buf); err != io.EOF {
		t.Errorf("after the close: %v, want EOF", err)
	}
}
