package flow

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
)

// stopped is a reader that takes nothing before it is released, and tells when it is asked to.
type stopped struct {
	hash.Hash
	asked, released chan struct{}
	once            sync.Once
}

func newStopped(released chan struct{}) *stopped {
	return &stopped{Hash: sha256.New(), asked: make(chan struct{}), released: released}
}

func (s *stopped) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.asked) })
	<-s.released
	return s.Hash.Write(p)
}

// Each of the stopped readers leaves a stream's window unread, and together they would leave
// nothing of the session's.
func TestReadersThatStopDoNotStopTheirSession(t *testing.T) {
	data := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{3}).Read(data)
	want := sha256.Sum256(data)
	for _, direction := range []string{"down", "up"} {
		t.Run(direction, func(t *testing.T) {
			const flows = 20
			released := make(chan struct{})
			reads := make(chan error, flows)
			read := func(c *Conn, s *stopped) {
				_, err := c.WriteTo(s)
				if err == nil && !bytes.Equal(s.Sum(nil), want[:]) {
					err = fmt.Errorf("got other bytes")
				}
				reads <- err
			}
			exits := make(chan *Conn)
			cc := session(t, func(w http.ResponseWriter, r *http.Request) {
				c, err := Accept(w, r, false)
				if err != nil {
					return
				}
				switch r.Header.Get("Kind") {
				case "echo":
					io.Copy(c, c)
				case "down":
					exits <- c
					c.ReadFrom(bytes.NewReader(data))
				case "up":
					exits <- c
					read(c, newStopped(released))
				}
				c.CloseWrite()
				c.Finish()
			})
			var writes sync.WaitGroup
			for range flows {
				req := request(t)
				req.Header.Set("Kind", direction)
				c, _, err := Open(t.Context(), cc, req, false, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				exit := <-exits
				near, far := dedicated(t)
				c.OnOffload(func() { exit.Offload(far); c.Offload(near) })
				if direction == "up" {
					writes.Go(func() {
						c.ReadFrom(bytes.NewReader(data))
						c.CloseWrite()
					})
					continue
				}
				s := newStopped(released)
				go read(c, s)
				<-s.asked
			}
			req := request(t)
			req.Header.Set("Kind", "echo")
			c, _, err := Open(t.Context(), cc, req, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			defer time.AfterFunc(30*time.Second, func() { c.Reset() }).Stop()
			big := make([]byte, 1<<20) // more than what goes without any window
			go func() { c.Write(big); c.CloseWrite() }()
			if n, err := io.Copy(io.Discard, c); n != int64(len(big)) || err != nil {
				t.Fatalf("beside them %d bytes came back, %v", n, err)
			}
			close(released)
			for range flows {
				if err := <-reads; err != nil {
					t.Error(err)
				}
			}
			writes.Wait()
		})
	}
}

// never is a writer that blocks until it is closed.
type never chan struct{}

func (n never) Write([]byte) (int, error) { <-n; return 0, io.ErrClosedPipe }

// dataWithoutEnd is one DATA capsule after the other.
type dataWithoutEnd struct {
	given int // bytes of data
	rest  []byte
}

func (d *dataWithoutEnd) Read(p []byte) (n int, err error) {
	if len(d.rest) == 0 {
		d.rest = make([]byte, capsule.HeaderSize+chunk)
		capsule.PutHeader(d.rest, capsule.Data, chunk)
		d.given += chunk
	}
	n = copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func TestAWriterThatWaitsIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConn(&dataWithoutEnd{}, &responseBody{}, false)
		var asked atomic.Int32
		c.OnOffload(func() { asked.Add(1) })
		block := make(never)
		go c.WriteTo(block)
		<-time.After(stallTime - 1)
		if c.Stalled() || asked.Load() != 0 {
			t.Error("a short wait is a stall")
		}
		<-time.After(2)
		synctest.Wait()
		if !c.Stalled() || asked.Load() != 1 {
			t.Errorf("stalled %v, asked for a dedicated connection %d times", c.Stalled(), asked.Load())
		}
		close(block)
		synctest.Wait()
		if c.Stalled() {
			t.Error("it is over and still a stall")
		}
	})
}

func TestAFrameThatWaitsForAWindowIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRequestBody(nil)
		var asked atomic.Int32
		p.pickup.onStall(func() { asked.Add(1) })
		go p.pull(zeros{}, nil)
		b := make([]byte, 1<<10)
		for range 3 {
			p.Read(b)
			<-time.After(stallTime - 1)
		}
		if asked.Load() != 0 || p.pickup.isLate() {
			t.Error("a short wait is a stall")
		}
		p.Read(b)
		<-time.After(stallTime + 1)
		synctest.Wait()
		if asked.Load() != 1 || !p.pickup.isLate() {
			t.Errorf("stalled %v, asked for a dedicated connection %d times", p.pickup.isLate(), asked.Load())
		}
		p.Read(b)
		if p.pickup.isLate() {
			t.Error("it is over and still a stall")
		}
		p.Close()
		<-time.After(stallTime + 1)
		if asked.Load() != 1 {
			t.Error("a dedicated connection for a flow that is over")
		}
	})
}

// A source that has nothing to say is no stall: net/http waits for the frame, not for a window.
func TestASilentSourceIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRequestBody(nil)
		p.pickup.onStall(func() { t.Error("asked for a dedicated connection") })
		r, w := io.Pipe()
		go p.pull(r, nil)
		go func() {
			b := make([]byte, 1<<10)
			for {
				if _, err := p.Read(b); err != nil {
					return
				}
			}
		}()
		w.Write([]byte("x"))
		<-time.After(time.Hour)
		if p.pickup.isLate() {
			t.Error("silence is a stall")
		}
		w.CloseWithError(io.ErrClosedPipe)
		p.Close()
	})
}

func TestAPeerThatDoesNotSwitchIsReadNoFurtherThanItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endless := &dataWithoutEnd{}
		c := newConn(endless, &responseBody{}, false)
		near, far := dedicated(t)
		defer far.Close()
		block := make(never)
		ended := make(chan struct{})
		go func() { c.WriteTo(block); close(ended) }()
		c.Offload(near)
		<-time.After(stallTime + 1)
		synctest.Wait()
		if least, most := 1<<20, h2.Sealed(0).StreamWindow+6*chunk; endless.given < least || endless.given > most {
			t.Errorf("%d bytes were read, want %d to %d", endless.given, least, most)
		}
		close(block)
		<-ended
		synctest.Wait() // and nobody is left in the end
	})
}
