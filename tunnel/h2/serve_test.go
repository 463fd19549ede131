package h2

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// atRest returns how many goroutines of c wait for streams.
func atRest(c *Conn) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestWhatHasServedStreamsEndsAtRest(t *testing.T) {
	stay := make(chan struct{})
	client, server := pair(t, func(s *Stream) {
		<-stay
		echo(s)
	}, func(o *Options) { o.Busy, o.Idle = true, 100*time.Millisecond })
	var all []*Stream
	for range 3 * mostKept {
		s := open(t, client)
		s.Write([]byte("x"))
		s.CloseWrite()
		all = append(all, s)
	}
	close(stay)
	for _, s := range all {
		if got, err := io.ReadAll(s); string(got) != "x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		s.Close()
	}
	until(t, "none stays at rest", func() bool { return atRest(server) == 0 })
	goesBackAndForth(t, client, 3) // and the connection goes on
}

func TestAKeptStreamOutlivesItsHandlerAndEndsOnce(t *testing.T) {
	ends := map[string]func(near, far *Stream){
		"closed here":   func(_, far *Stream) { far.Close() },
		"reset here":    func(_, far *Stream) { far.Reset() },
		"reset there":   func(near, _ *Stream) { near.Reset() },
		"before it was": nil,
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			kept, over := make(chan *Stream, 1), make(chan struct{}, 2)
			client, server := pair(t, func(s *Stream) {
				s.Respond(Fields{{Name: ":status", Value: "200"}}, false)
				if end == nil {
					s.Reset()
				}
				s.Keep(func() { over <- struct{}{} })
				kept <- s
			})
			near, err := client.Open(Fields{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/"}}, true)
			if err != nil {
				t.Fatal(err)
			}
			near.Flush()
			far := <-kept
			if end != nil {
				server.served.Wait() // the handler has returned
				if _, err := far.Write([]byte("later")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(near, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
				end(near, far)
			}
			<-over
			until(t, "the stream counts", func() bool { return places(server) == 0 })
			server.Close()
			server.Wait()
			if len(over) > 0 {
				t.Error("it ended twice")
			}
		})
	}
}

// places returns how many streams of the peer count.
func places(c *Conn) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.theirs
}

// A peer opens another stream as soon as it has seen the end of one: it must not be refused because
// the handler of that one has yet to return. One that was reset counts until then.
func TestAnAnswerThatEndedMakesRoomBeforeItsHandlerReturns(t *testing.T) {
	stay := make(chan struct{})
	leave := sync.OnceFunc(func() { close(stay) })
	defer leave()
	var served atomic.Int32
	client, server := pair(t, func(s *Stream) {
		first := served.Add(1) == 1
		s.Respond(ok, true)
		s.Flush()
		if first {
			<-stay
		}
	}, func(o *Options) { o.MaxStreams = 1 })
	for i := range 3 {
		near, err := client.Open(Fields{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/"}}, true)
		if err != nil {
			t.Fatal(err)
		}
		near.Flush()
		if _, err := io.Copy(io.Discard, near); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	leave()
	until(t, "the handlers have returned", func() bool { return places(server) == 0 })
	server.Close()
	server.Wait()
	if n := places(server); n != 0 {
		t.Errorf("%d places are taken in the end", n)
	}
}
