package h2

import (
	"bytes"
	"io"
	"runtime/debug"
	"strings"
	"testing"
)

// socket takes up to most bytes at a time without waiting, as a socket does that has little room.
type socket struct {
	bytes.Buffer
	most   int
	pumped bool // somebody has waited to write; guarded by the stream's sink
}

func (s *socket) Direct() func(p []byte) int {
	return func(p []byte) int {
		n, _ := s.Buffer.Write(p[:min(len(p), s.most)])
		return n
	}
}

func (s *socket) Write(p []byte) (int, error) {
	s.pumped = true
	return s.Buffer.Write(p)
}

func TestAShortFlowIsDeliveredByWhoIsThereAlready(t *testing.T) {
	for name, most := range map[string]int{"whole": 1 << 10, "a part of it": 3, "nothing": 0} {
		t.Run(name, func(t *testing.T) {
			goOn := make(chan struct{})
			c, _ := pair(t, func(s *Stream) {
				s.Respond(ok, false)
				s.Write([]byte("before, "))
				<-goOn
				s.Write([]byte("after"))
				s.Close()
			})
			s := open(t, c)
			s.Flush()
			until(t, "nothing came", func() bool { return s.Buffered() == len("before, ") })
			to := &socket{most: most}
			stack := make(chan string, 1)
			s.Deliver(to, func(n int64, err error) {
				if n != int64(len("before, after")) || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				stack <- string(debug.Stack())
			})
			close(goOn)
			by := <-stack
			if got := to.String(); got != "before, after" {
				t.Errorf("%q arrived", got)
			}
			if all := most > 100; to.pumped == all || all && !strings.Contains(by, "(*Conn).run") {
				t.Errorf("pumped: %t; the end was told by %s", to.pumped, by)
			}
		})
	}
}

// Who has ended a stream while its first bytes were written gets no more of it, and they are counted
// as taken.
func TestAStreamMayEndWhileItsFirstBytesAreDelivered(t *testing.T) {
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		s.Write([]byte("hello"))
		io.Copy(io.Discard, struct{ io.Reader }{s})
	})
	s := open(t, c)
	s.Flush()
	until(t, "nothing came", func() bool { return s.Buffered() > 0 })
	done := make(chan error, 1)
	s.Deliver(resets{s}, func(_ int64, err error) { done <- err })
	if err := <-done; err == nil {
		t.Error("it has ended well")
	}
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held != 0 || s.Buffered() != 0 {
		t.Errorf("%d bytes are held, %d of the stream", held, s.Buffered())
	}
}

// resets has its stream reset while it takes nothing.
type resets struct{ s *Stream }

func (r resets) Write(p []byte) (int, error) { return len(p), nil }

func (r resets) Direct() func(p []byte) int {
	return func([]byte) int {
		r.s.Reset()
		return 0
	}
}
