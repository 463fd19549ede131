package h2

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"ztm/tunnel/h2/budget"
)

// endlessOrEcho sends without an end where it is asked to, and otherwise says what it hears.
func endlessOrEcho(s *Stream) {
	if s.Fields().Get(":path") != "/endless" {
		echo(s)
		return
	}
	s.Respond(ok, false)
	b := make([]byte, 64<<10)
	for {
		if _, err := s.Write(b); err != nil {
			return
		}
	}
}

// stall opens streams whose reader never comes.
func stall(t *testing.T, c *Conn, n int) (all []*Stream) {
	t.Helper()
	endless := slices.Clone(get)
	endless[3].Value = "/endless"
	for range n {
		s, err := c.Open(endless, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Response(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// goesBackAndForth fails if small pieces do not get through.
func goesBackAndForth(t *testing.T, c *Conn, n int) {
	s, err := c.Open(get, false)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(timeout))
	b := make([]byte, 100)
	for i := range n {
		if _, err := s.Write(b); err != nil {
			t.Errorf("round %d: %v", i, err)
			return
		}
		if _, err := io.ReadFull(s, b); err != nil {
			t.Errorf("round %d: %v", i, err)
			return
		}
	}
}

func TestReadersThatStopHoldUpNobodyAndStayBelowTheBudget(t *testing.T) {
	for name, c := range map[string]struct {
		limit            int64
		window           int
		sessions, stalls int
	}{
		"one session":       {32 << 20, 1 << 20, 1, 40},
		"many sessions":     {32 << 20, 1 << 20, 8, 40},
		"a small device":    {2 << 20, 64 << 10, 1, 40},
		"two of them":       {2 << 20, 64 << 10, 2, 20},
		"hundreds of flows": {32 << 20, 1 << 20, 1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			b := &budget.Budget{Limit: c.limit}
			var most atomic.Int64
			var wg sync.WaitGroup
			for range c.sessions {
				client, _ := pair(t, endlessOrEcho, func(o *Options) { o.Budget, o.Window = b, c.window })
				wg.Go(func() {
					for _, s := range stall(t, client, c.stalls) {
						defer s.Reset()
					}
					goesBackAndForth(t, client, 300)
					if held := b.Held(); held > most.Load() {
						most.Store(held)
					}
				})
			}
			wg.Wait()
			if most.Load() > c.limit {
				t.Errorf("%d bytes are held, and the limit is %d", most.Load(), c.limit)
			}
		})
	}
}

func TestWindowsAreLargeAgainWhenReadersHaveGone(t *testing.T) {
	const window = 1 << 20
	b := &budget.Budget{Limit: 8 << 20}
	c, _ := pair(t, endlessOrEcho, func(o *Options) { o.Budget, o.Window = b, window })
	stalled := stall(t, c, 20)
	goesBackAndForth(t, c, 10)
	announced := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.announced
	}
	if n := announced(); n > budget.MostPressed {
		t.Errorf("streams begin with a window of %d bytes", n)
	}
	for _, s := range stalled {
		s.Reset()
	}
	for end := time.Now().Add(timeout); announced() < window && time.Now().Before(end); {
		goesBackAndForth(t, c, 10)
	}
	if n := announced(); n < window {
		t.Errorf("streams begin with a window of %d bytes", n)
	}
	if held := b.Held(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}
