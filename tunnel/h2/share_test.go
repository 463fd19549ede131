package h2

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/h2/budget"
)

// longWay is a line of 100 MB/s on which a round trip takes 50 ms.
func longWay() (near, far net.Conn) {
	near, a := net.Pipe()
	b, far := net.Pipe()
	go carry(b, a)
	go carry(a, b)
	return near, far
}

func carry(dst, src net.Conn) {
	type late struct {
		b  []byte
		at time.Time
	}
	way := make(chan late, 1<<12)
	go func() {
		defer close(way)
		var free time.Time // when the line has sent what came before
		for {
			b := make([]byte, 16<<10)
			n, err := src.Read(b)
			if err != nil {
				return
			}
			if free.Before(time.Now()) {
				free = time.Now()
			}
			free = free.Add(time.Duration(n) * 10)
			way <- late{b[:n], free.Add(25 * time.Millisecond)}
		}
	}()
	for l := range way {
		<-time.After(time.Until(l.at))
		dst.Write(l.b)
	}
	dst.Close()
}

// far returns both ends of a connection over a long way. The server has a budget.
func far(b *budget.Budget) (client, server *Conn) {
	near, other := longWay()
	take := func(s *Stream) {
		io.Copy(io.Discard, s)
		s.Respond(ok, true)
	}
	return Client(near, Options{}), ServerConn(other, Options{Handler: take, Budget: b, MaxWindow: 32 << 20, RTT: 50 * time.Millisecond})
}

// upload returns how long 32 MB take.
func upload(t *testing.T, c *Conn) time.Duration { return request(t, c, 32<<20) }

// request returns how long one of so many bytes takes, with its answer.
func request(t *testing.T, c *Conn, size int) time.Duration {
	began := time.Now()
	s, err := c.Open(get, false)
	if err == nil {
		_, err = s.Write(make([]byte, size))
	}
	if err == nil {
		s.CloseWrite()
		_, err = s.Response(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

func grown(c *Conn) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.grown
}

func TestAConnectionThatHasGrownLeavesRoomToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget.Budget{Limit: 64 << 20}
		first, x := far(b)
		second, y := far(b)
		took := upload(t, first)
		if again := upload(t, second); again > took*3/2 {
			t.Errorf("32 MB took %v, on the next connection %v", took, again)
		}
		var wg sync.WaitGroup
		wg.Go(func() { upload(t, first) })
		upload(t, second)
		wg.Wait()
		if x, y := grown(x), grown(y); x > 2*y || y > 2*x {
			t.Errorf("in use together one has grown by %d bytes, the other by %d", x, y)
		}
		closed(first, second, x, y)
	})
}

func TestAConnectionGivesBackWhatOthersWantAndGrowsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget.Budget{Limit: 64 << 20}
		client, server := far(b)
		took, before := upload(t, client), grown(server)
		var others [40]int // connections that have reserved so many bytes
		for range 4 {
			for i := range others {
				others[i] += b.Grow(others[i], 1<<20)
			}
			upload(t, client)
		}
		if n := grown(server); n > before/4 {
			t.Errorf("it had grown by %d bytes, and has %d beside 40 others", before, n)
		}
		for _, n := range others {
			b.Shrink(n)
		}
		upload(t, client)
		if again := upload(t, client); again > 2*took {
			t.Errorf("32 MB took %v, and when the others have gone %v", took, again)
		}
		closed(client, server)
	})
}

// lineTime is how long the line takes for an upload at the least.
const lineTime = 32<<20*10*time.Nanosecond + 50*time.Millisecond

func TestAStreamHasMostOfTheWindowOfItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := far(&budget.Budget{Limit: 28 << 20}) // of which a connection grows by 7: the line holds 5
		upload(t, client)
		if again := upload(t, client); again > lineTime*11/10 {
			t.Errorf("32 MB take %v, and the line takes them in %v", again, lineTime)
		}
		closed(client, server)
	})
}

func TestTheNextStreamBeginsWithAllThatTheWindowHasGrownTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := far(nil)
		<-time.After(time.Second)   // the client knows the first window
		request(t, client, 256<<10) // a whole one at once: it grows twice
		<-time.After(time.Second)
		server.mu.Lock()
		announced, learned := server.announced, server.learned
		server.mu.Unlock()
		if announced != learned || learned < 1000<<10 {
			t.Errorf("it has grown to %d bytes, and the next begins with %d", learned, announced)
		}
		closed(client, server)
	})
}

func TestAStreamThatWaitsForItsWindowLeavesOthersRoomInTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := far(&budget.Budget{Limit: 4 << 20}) // so a window is a fifth of what the line holds
		var wg sync.WaitGroup
		wg.Go(func() { upload(t, client) })
		for i := range 20 {
			if took := request(t, client, 1000); took > 75*time.Millisecond {
				t.Errorf("request %d took %v", i, took)
			}
		}
		wg.Wait()
		closed(client, server)
	})
}

func closed(all ...*Conn) {
	for _, c := range all {
		c.Close()
		c.Wait()
	}
	<-time.After(time.Second) // what is on the lines arrives
}
