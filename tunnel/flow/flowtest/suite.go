// Package flowtest is the suite that every [flow.Session] passes, whatever path its bytes take.
package flowtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
)

// Dial opens a session to a peer that answers with the handler, until the test ends.
type Dial func(t testing.TB, handler http.HandlerFunc) flow.Session

// Run is the suite.
func Run(t *testing.T, dial Dial) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Dial)
	}{
		{"each direction of a flow ends by itself", eachDirectionEnds},
		{"a flow has its path, its parameters and its ID", aFlowIsAskedFor},
		{"a refusal is the peer's own", aRefusalIsThePeers},
		{"datagrams keep their bounds", datagramsKeepTheirBounds},
		{"a plain request is answered", aRequestIsAnswered},
		{"the load is that of the flows that are open", theLoadIsCounted},
		{"closing ends the session and its flows", closingEndsIt},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, dial) })
	}
}

// echo returns what comes.
func echo(_ http.ResponseWriter, r *http.Request) {
	c, err := flow.Accept(h2.StreamOf(r), r.URL.Query().Has("datagrams"), nil)
	if err != nil {
		return
	}
	if r.URL.Query().Has("datagrams") {
		echoDatagrams(c)
	} else {
		io.Copy(c, c)
		c.CloseWrite()
	}
	c.Finish()
}

func echoDatagrams(c *flow.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func open(t *testing.T, s flow.Session, r flow.Request) *flow.Conn {
	t.Helper()
	c, err := s.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Reset() })
	return c
}

func eachDirectionEnds(t *testing.T, dial Dial) {
	c := open(t, dial(t, echo), flow.Request{Path: "x/echo"})
	want := bytes.Repeat([]byte("all of it; "), 100_000)
	go func() { // ends with the flow
		c.Write(want)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(want), err)
	}
	if c.Sent() != int64(len(want)) || c.Received() != int64(len(want)) {
		t.Errorf("counted %d and %d of %d bytes", c.Sent(), c.Received(), len(want))
	}
}

func aFlowIsAskedFor(t *testing.T, dial Dial) {
	asked := make(chan string, 1)
	s := dial(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- fmt.Sprintf("%s %s", r.Method, r.URL.RequestURI())
		echo(w, r)
	})
	open(t, s, flow.Request{Path: "tunnel/tcp/web", Query: url.Values{"port": {"2"}}, ID: "one"})
	if got, want := <-asked, "POST /v1/apps/tunnel/tcp/web?port=2"; got != want {
		t.Errorf("the peer was asked for %q, want %q", got, want)
	}
}

func aRefusalIsThePeers(t *testing.T, dial Dial) {
	s := dial(t, func(w http.ResponseWriter, _ *http.Request) {
		answer.Fail(w, nil, answer.Errorf(answer.Denied, "user bob may not"))
	})
	_, err := s.Open(t.Context(), flow.Request{Path: "x/y"})
	var no *flow.Refused
	if !errors.As(err, &no) || no.Reason.Code != answer.Denied || no.Error() != "user bob may not" || answer.CodeOf(err) != answer.Denied {
		t.Errorf("got %v", err)
	}
	if flows, _ := s.Load(); flows != 0 {
		t.Errorf("%d flows are open", flows)
	}
}

func datagramsKeepTheirBounds(t *testing.T, dial Dial) {
	c := open(t, dial(t, echo), flow.Request{Path: "x/echo", Query: url.Values{"datagrams": {""}}, Datagrams: true})
	buf := make([]byte, 1<<16)
	for _, size := range []int{0, 1, 1200, 65507} {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); n != size || err != nil {
			t.Errorf("%d bytes came back as %d, %v", size, n, err)
		}
	}
}

func aRequestIsAnswered(t *testing.T, dial Dial) {
	s := dial(t, func(w http.ResponseWriter, r *http.Request) { answer.JSON(w, r.URL.Path) })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://peer/v1/ping", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != `"/v1/ping"` || err != nil {
		t.Errorf("answered with %q, %v", b, err)
	}
}

func theLoadIsCounted(t *testing.T, dial Dial) {
	s := dial(t, echo)
	want := func(flows int, loaded bool) {
		t.Helper()
		n, l := s.Load()
		if _, idle := s.IdleSince(); n != flows || l != loaded || idle != (flows == 0) {
			t.Errorf("%d flows, loaded %v, idle %v; want %d, %v", n, l, idle, flows, loaded)
		}
	}
	want(0, false)
	c := open(t, s, flow.Request{Path: "x/echo"})
	want(1, false)
	go func() { c.Write(make([]byte, flow.BulkBytes)); c.CloseWrite() }() // ends with the flow
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	want(1, true)
	c.Close()
	want(0, false)
}

func closingEndsIt(t *testing.T, dial Dial) {
	s := dial(t, echo)
	c := open(t, s, flow.Request{Path: "x/echo"})
	if err := s.Err(); err != nil {
		t.Errorf("it takes no flows: %v", err)
	}
	s.Close()
	<-s.Done()
	if s.Err() == nil {
		t.Error("it still takes flows")
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("its flow has a clean end")
	}
}
