package h2

import (
	"io"
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
	for end := time.Now().Add(patience); !f(); <-tick.C {
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
