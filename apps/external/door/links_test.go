package door

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/external/contract"
)

// numbered is a program that answers each request with the number of its connection and of the request
// there, and who asks. misbehave may write more, and ends the connection by returning false.
func numbered(misbehave func(c net.Conn, connection, request int) bool) func(net.Conn) {
	var connections atomic.Int32
	return func(c net.Conn) {
		connection, in := int(connections.Add(1)), bufio.NewReader(c)
		for request := 1; ; request++ {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if misbehave != nil && !misbehave(c, connection, request) {
				return
			}
			text := fmt.Sprintf("%d.%d %s", connection, request, r.Header.Get("Ztm-Peer-User"))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// asks has a host send a text as the one request of a flow, and returns the text of the answer.
func (m *mesh) asks(t *testing.T, h *appstest.Host, text string) string {
	t.Helper()
	c, err := h.Open(t.Context(), m.alice.Self().ID, "app/http/"+appID, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, got := exchanged(t, c, text)
	m.settled(t)
	return got
}

// settled waits until the door has done with all flows.
func (m *mesh) settled(t *testing.T) {
	t.Helper()
	appstest.Eventually(t, "no flow is left", func() bool { return m.exit.in.all.Count(appID) == 0 })
}

func TestTheNextRequestComesOnTheSameConnectionIfItIsOfTheSameCaller(t *testing.T) {
	m := newMesh(t, numbered(nil))
	m.exit.in.links.most = time.Hour // however busy the machine is
	for i, x := range []struct {
		by   *appstest.Host
		want string
	}{{m.bob, "1.1 bob"}, {m.bob, "1.2 bob"}, {m.alice, "2.1 alice"}, {m.bob, "3.1 bob"}, {m.bob, "3.2 bob"}} {
		if got := m.asks(t, x.by, get); got != x.want {
			t.Errorf("request %d is %q, want %q", i, got, x.want)
		}
	}
}

// TestWhatMayNotBeSentTwiceComesOnAConnectionOfItsOwn: the program may end one that is kept at the moment
// at which it is used.
func TestWhatMayNotBeSentTwiceComesOnAConnectionOfItsOwn(t *testing.T) {
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
		"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	} {
		m := newMesh(t, numbered(nil))
		m.asks(t, m.bob, get)
		if got := m.asks(t, m.bob, text); got != "2.1 bob" {
			t.Errorf("%q is %q", text, got)
		}
	}
}

func TestAConnectionThatEndsAsItIsUsedAgainIsReplaced(t *testing.T) {
	m := newMesh(t, numbered(func(_ net.Conn, _, request int) bool { return request == 1 }))
	for i, want := range []string{"1.1 bob", "2.1 bob", "3.1 bob"} {
		if got := m.asks(t, m.bob, get); got != want {
			t.Errorf("request %d is %q, want %q", i, got, want)
		}
	}
}

// TestAnAnswerThatEndsOddlyIsTheLastOfItsConnection: what comes behind it is the answer to nothing.
func TestAnAnswerThatEndsOddlyIsTheLastOfItsConnection(t *testing.T) {
	const own = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"
	for name, text := range map[string]string{
		"two answers":            own + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
		"more than it says":      own + "stolen",
		"a body of a 204":        "HTTP/1.1 204 No Content\r\n\r\nstolen",
		"it says that it closes": strings.Replace(own, "Content", "Connection: close\r\nContent", 1),
		"HTTP/1.0":               strings.Replace(own, "1.1", "1.0", 1),
		"behind the last chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\nstolen",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, numbered(func(c net.Conn, connection, _ int) bool {
				if connection == 1 {
					io.WriteString(c, text)
					io.Copy(io.Discard, c) // until the agent ends it
					return false
				}
				return true
			}))
			if got := m.asks(t, m.bob, get); got != "own" && !strings.Contains(text, "204") {
				t.Errorf("the answer is %q", got)
			}
			if got := m.asks(t, m.bob, get); got != "2.1 bob" {
				t.Errorf("the next answer is %q", got)
			}
		})
	}
}

func TestWhatComesBehindAnAnswerLaterIsNotTheNextOne(t *testing.T) {
	more, written := make(chan bool), make(chan bool)
	m := newMesh(t, numbered(func(c net.Conn, connection, _ int) bool {
		if connection > 1 {
			return true
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")
		<-more
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
		close(written)
		io.Copy(io.Discard, c)
		return false
	}))
	m.asks(t, m.bob, get)
	close(more)
	<-written
	if got := m.asks(t, m.bob, get); got != "2.1 bob" {
		t.Errorf("the next answer is %q", got)
	}
}

// TestAProgramThatTakesOneConnectionAfterTheOtherAnswersAll: none is kept from it by a connection that has
// nothing to ask.
func TestAProgramThatTakesOneConnectionAfterTheOtherAnswersAll(t *testing.T) {
	turn := make(chan bool, 1)
	inner := numbered(nil)
	m := newMesh(t, func(c net.Conn) {
		turn <- true
		defer func() { <-turn }()
		inner(c)
	})
	const each = 20
	done := make(chan error, 2*each)
	for _, h := range []*appstest.Host{m.bob, m.alice} {
		go func() {
			for range each {
				c, err := h.Open(t.Context(), m.alice.Self().ID, "app/http/"+appID, nil)
				if err == nil {
					io.WriteString(c, get)
					var text []byte
					if text, err = io.ReadAll(c); err == nil && !strings.HasSuffix(string(text), " "+h.Self().User) {
						err = fmt.Errorf("%s is answered %q", h.Self().User, text)
					}
					c.Close()
				}
				done <- err
			}
		}()
	}
	for range 2 * each {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAConnectionIsKeptForAMomentAndNotWhileSomebodyWaits(t *testing.T) {
	for others, want := range map[int]time.Duration{0: keptFor, 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			var k links
			for range others {
				k.enter(appID, contract.Caller{User: "alice"})
			}
			near, program := net.Pipe()
			begun := time.Now()
			k.enter(appID, contract.Caller{User: "bob"})
			k.answered(appID)
			go k.keep(appID, contract.Caller{User: "bob"}, newLink(near))
			io.Copy(io.Discard, program)
			if took := time.Since(begun); took != want {
				t.Errorf("with %d others it is ended after %v, want %v", others, took, want)
			}
			for range others {
				k.answered(appID)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			if len(k.all) != 0 {
				t.Errorf("%d apps are remembered", len(k.all))
			}
		})
	}
}
