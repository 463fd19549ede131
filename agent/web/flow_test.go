package web

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
)

const shell = "/terminal/shell"

func flowPath(path string) string { return "/flow/demo/" + string(someID) + path }

func TestAFlowCarriesBytesAndEndsBothWays(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	s := p.dial(flowPath(shell))
	s.until(t, `"open":true`)
	far := <-p.flows
	go io.WriteString(far, "welcome")
	s.write(2, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello" {
		t.Errorf("the app got %q, %v", got, err)
	}
	if op, payload, err := s.read(); op != 2 || payload != "welcome" {
		t.Errorf("the page got %d %q %v", op, payload, err)
	}
	far.Close()
	s.until(t, `"end":true`)
}

func TestARefusalReachesThePage(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	p.dial("/flow/other/"+string(someID)+shell).until(t, `"message":"no such mesh"`)
	p.dial("/flow/demo/nobody"+shell).until(t, `is not an ID`)
}

func TestAPageThatGoesTakesItsFlowWithIt(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	s := p.dial(flowPath(shell))
	s.until(t, `"open":true`)
	s.Close()
	if _, err := (<-p.flows).Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the app reads %v", err)
	}
}

// count writes to a flow until that fails, and counts.
func count(far net.Conn, n *int, done chan<- struct{}) {
	defer close(done)
	b := []byte(strings.Repeat("y", 1000))
	for {
		m, err := far.Write(b)
		*n += m
		if err != nil {
			return
		}
	}
}

func TestAPageThatUsesNothingIsSentNoMoreThanItsWindow(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	s := p.dial(flowPath(shell))
	s.until(t, `"open":true`)
	far, sent, done := <-p.flows, 0, make(chan struct{})
	go count(far, &sent, done)
	read := func(n int) {
		t.Helper()
		for n > 0 {
			_, payload, err := s.read()
			if err != nil {
				t.Fatal(err)
			}
			n -= len(payload)
		}
		if n < 0 {
			t.Fatalf("%d bytes too many", -n)
		}
	}
	read(window)
	s.write(1, fmt.Sprintf(`{"took":%d}`, 5000))
	read(5000)
	s.write(1, `{"took":-5}`) // gives nothing, and takes nothing away
	s.write(1, `{"took":7000}`)
	read(7000)
	s.Close()
	<-done
	if most := window + 5000 + 7000 + 2*1000; sent > most {
		t.Errorf("%d bytes left the app, at most %d were asked for", sent, most)
	}
}

func TestATabGetsAnAnswerWhenItHasChanged(t *testing.T) {
	appstest.Long(t)
	p := newBench(t).enter(api.Console{})
	s := p.dial("/live")
	s.write(1, `{"watch":["/api/meshes","/api/meshes/demo/ca","/session","nonsense"]}`)
	s.until(t, `{"path":"/api/meshes","status":200,"body":{"from":"the API"}}`)
	s.until(t, `{"path":"/api/meshes/demo/ca","status":404`)
	s.until(t, `{"path":"/session","status":400`)
	s.until(t, `{"path":"nonsense","status":400`)
	asked := p.asked.Load()
	appstest.Eventually(t, "the agent is asked again", func() bool { return p.asked.Load() > asked })
	p.body.Store(`[1,2]`)
	if _, payload, err := s.read(); payload != `{"path":"/api/meshes","status":200,"body":[1,2]}` {
		t.Errorf("the next message is %q, %v", payload, err)
	}
}

func TestATabThatIsHiddenCostsNothing(t *testing.T) {
	appstest.Long(t)
	p := newBench(t).enter(api.Console{})
	s := p.dial("/live")
	s.write(1, `{"watch":["/api/meshes"]}`)
	s.until(t, `"status":200`)
	s.write(1, `{"watch":[]}`)
	s.write(9, "")
	for op := byte(0); op != 10; { // the answer to a ping: what came before it was read
		var err error
		if op, _, err = s.read(); err != nil {
			t.Fatal(err)
		}
	}
	hidden, seen := p.times("/api/meshes"), p.times("/api/version")
	other := p.dial("/live")
	other.write(1, `{"watch":["/api/version"]}`)
	appstest.Eventually(t, "another tab has looked three times", func() bool { return p.times("/api/version") >= seen+3 })
	if n := p.times("/api/meshes") - hidden; n > 1 {
		t.Errorf("%d requests for a tab that is hidden", n)
	}
}

func TestATabThatWatchesTooMuchIsClosed(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	for _, in := range []string{`{"watch":["/api/x"` + strings.Repeat(`,"/api/x"`, maxWatched) + `]}`, `{"watch":1}`, `nonsense`} {
		s := p.dial("/live")
		s.write(1, in)
		for {
			op, _, err := s.read()
			if err == nil && op == 8 {
				break
			}
			if err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("%.30s: %v", in, err)
			}
			if err != nil {
				break
			}
		}
	}
}
