package flow

import (
	"bytes"
	"fmt"
	"io"
	"testing"

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
