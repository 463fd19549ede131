package flow

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/capsule"
)

// inMemory is a way beside a session on which datagrams come back.
type inMemory struct {
	wake    func()
	all     chan []byte
	takes   int // datagrams of so many bytes at most
	delists chan uint32
}

func newInMemory(takes int) *inMemory {
	return &inMemory{all: make(chan []byte, 100), takes: takes, delists: make(chan uint32, 10)}
}

func (m *inMemory) Enlist(_ uint32, wake func()) { m.wake = wake }
func (m *inMemory) Delist(flow uint32)           { m.delists <- flow }
func (m *inMemory) Waits(uint32) bool            { return len(m.all) > 0 }

func (m *inMemory) Send(_ uint32, p []byte) bool {
	if len(p) > m.takes {
		return false
	}
	m.all <- append([]byte("beside: "), p...)
	m.wake()
	return true
}

func (m *inMemory) Next(_ uint32, b []byte) (int, bool) {
	select {
	case p := <-m.all:
		return copy(b, p), true
	default:
		return 0, false
	}
}

// echoes is an exit that sends datagrams back.
func echoes(t *testing.T) *exits {
	return serve(t, true, func(c *Conn) {
		b := make([]byte, capsule.MaxDatagram)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			c.Write(b[:n])
		}
	})
}

// A reader waits for both, and what the way does not take is in the session.
func TestDatagramsGoBesideTheSessionOrInIt(t *testing.T) {
	c := open(t, echoes(t), true)
	defer c.Reset()
	said, got := make(chan string), make(chan string)
	go func() { // ends with the flow
		b := make([]byte, capsule.MaxDatagram)
		for {
			n, err := c.Read(b)
			if err != nil {
				close(got)
				return
			}
			got <- string(b[:n])
		}
	}()
	go func() { // ends with said
		for text := range said {
			c.Write([]byte(text))
		}
	}()
	defer close(said)
	way := newInMemory(100)
	long := string(bytes.Repeat([]byte("x"), 101))
	for i, tt := range []struct {
		with func() // before
		text string
		want string
	}{
		{nil, "in", "in"},
		{func() { c.Beside(way) }, "small", "beside: small"}, // the reader waits already
		{nil, long, long},
		{nil, "", "beside: "},
		{func() { way.takes = -1 }, "in again", "in again"},
	} {
		if tt.with != nil {
			tt.with()
		}
		said <- tt.text
		if s := <-got; s != tt.want {
			t.Errorf("%d: %q came back, want %q", i, s, tt.want)
		}
	}
}

func TestAFlowThatEndsLeavesItsWay(t *testing.T) {
	for _, first := range []bool{true, false} {
		c := open(t, echoes(t), true)
		way, other := newInMemory(100), newInMemory(100)
		if first {
			c.Beside(other) // which another takes the place of
		}
		if !first {
			c.Close()
		}
		c.Beside(way)
		c.Close()
		if id := <-way.delists; id != c.stream.ID() {
			t.Errorf("it leaves as %d", id)
		}
		if first {
			<-other.delists
		}
	}
}

// Its first datagram might come before the peer is ready for it.
func TestAnExitIsNotTheFirstToGoBeside(t *testing.T) {
	way, sent := newInMemory(100), make(chan int, 1)
	way.wake = func() {}
	c := open(t, serve(t, true, func(c *Conn) {
		c.Beside(way)
		c.Write([]byte("first"))
		sent <- len(way.all)
		c.Read(make([]byte, 100))
		c.Write([]byte("second"))
		sent <- len(way.all)
	}), true)
	defer c.Reset()
	if n := <-sent; n != 0 {
		t.Error("it is")
	}
	c.Write([]byte("hello"))
	if n := <-sent; n != 1 {
		t.Error("it stays in the session")
	}
}

// A path takes what it is given: whether the flow is over the stream of the session knows.
func TestNothingGoesBesideOfAFlowThatIsOver(t *testing.T) {
	for name, end := range map[string]func(here, there *Conn){
		"reset here":      func(here, _ *Conn) { here.Reset() },
		"reset by a peer": func(_, there *Conn) { there.Reset() },
		"closed here":     func(here, _ *Conn) { here.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			there, over := make(chan *Conn, 1), make(chan struct{})
			defer close(over)
			c := open(t, serve(t, true, func(c *Conn) {
				there <- c
				<-over
			}), true)
			way := newInMemory(100)
			c.Beside(way)
			if _, err := c.Write([]byte("x")); err != nil || len(way.all) != 1 {
				t.Fatalf("before: %v", err)
			}
			end(c, <-there)
			appstest.Eventually(t, "a Write fails", func() bool {
				for len(way.all) > 0 {
					<-way.all
				}
				_, err := c.Write([]byte("x"))
				return err != nil
			})
			if len(way.all) > 0 {
				t.Error("it is sent all the same")
			}
		})
	}
}

// A datagram that comes before the reader knows of the way wakes nobody who would find it.
func TestWhatCameBeforeAFlowUsesTheWayIsRead(t *testing.T) {
	c := open(t, echoes(t), true)
	way := newInMemory(100)
	way.all <- []byte("early")
	c.Write([]byte("in"))
	got := make(chan string)
	go func() { // ends with the flow
		defer close(got)
		for b := make([]byte, 100); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			got <- string(b[:n])
		}
	}()
	if s := <-got; s != "in" {
		t.Fatal(s)
	}
	for range 100 {
		runtime.Gosched() // the reader waits, most likely
	}
	c.Beside(way)
	late := time.AfterFunc(time.Minute, func() { c.Reset() }) // which wakes it
	if s := <-got; s != "early" || !late.Stop() {
		t.Errorf("it reads %q, or has slept", s)
	}
	c.Reset()
	for range got {
	}
}

// A flow lives long: a way that was lost, or could not be made when it began, is asked for again.
func TestAFlowThatSendsInItsSessionAsksForAWayNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := open(t, serveOver(t, near, far, true, func(c *Conn) { io.Copy(io.Discard, c) }), true)
		asked, way := 0, newInMemory(100)
		way.wake = func() {}
		c.OnBeside(func() { asked++ })
		for i, tt := range []struct {
			with func()
			want int // asked so far
		}{
			{func() {}, 1},
			{func() {}, 1},
			{func() { <-time.After(askEvery) }, 2},
			{func() { <-time.After(askEvery); c.Beside(way) }, 2},
			{func() { way.takes = -1 }, 3},
			{func() { <-time.After(askEvery); c.Reset() }, 3},
		} {
			tt.with()
			c.Write([]byte("voice"))
			if asked != tt.want {
				t.Errorf("%d: asked %d times, want %d", i, asked, tt.want)
			}
		}
	})
}

func TestAFlowOfBytesHasNoWayBeside(t *testing.T) {
	c := open(t, serve(t, false, func(c *Conn) { io.Copy(c, c); c.CloseWrite() }), false)
	way := newInMemory(100)
	c.Beside(way)
	fmt.Fprint(c, "bytes")
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "bytes" || way.wake != nil {
		t.Errorf("%q, %v", b, err)
	}
}
