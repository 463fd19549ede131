package main

import (
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"ztm/scripts/hop"
)

// line is what lies between an agent and its hub. The zero value is nothing.
type line struct {
	delay   time.Duration // each way
	loss    float64       // how many packets are lost, as a part of them
	relayed bool          // counted, also without delay and loss
}

func (l line) none() bool { return l == line{} }

// packet is what a packet of TCP carries, in bytes.
const packet = 1448

// lost reports whether a piece of so many bytes has lost a packet.
func (l line) lost(n int) bool {
	packets := (n + packet - 1) / packet
	return l.loss > 0 && rand.Float64() > math.Pow(1-l.loss, float64(packets))
}

// relay is a line where the kernel has no netem: it holds every byte for a time and counts it. What
// a lost packet does to a connection of TCP it does, too: all that comes after waits for a round
// trip, until the packet has been sent again. Only the congestion window does not shrink.
type relay struct {
	line
	ln    net.Listener
	bytes atomic.Int64 // payload, both directions

	mu   sync.Mutex
	open []*net.TCPConn // in the order in which they came; guarded by mu
	only bool           // no other connection; guarded by mu
}

// narrow leaves the oldest connection, which is the control session, and lets no other in: also the one
// that an agent has in reserve is gone.
func (r *relay) narrow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.only = true
	for _, c := range r.open[min(1, len(r.open)):] {
		c.Close()
	}
}

// enter reports whether a connection may come in; leave follows.
func (r *relay) enter(c *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.only {
		r.open = append(r.open, c)
	}
	return !r.only
}

func (r *relay) leave(c *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = slices.DeleteFunc(r.open, func(o *net.TCPConn) bool { return o == c })
}

func newRelay(target string, l line) (*relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{line: l, ln: ln}
	go hop.AcceptAll(ln, func(in *net.TCPConn) {
		if !r.enter(in) {
			in.SetLinger(0)
			in.Close()
			return
		}
		defer r.leave(in)
		up, err := net.Dial("tcp", target)
		if err != nil {
			in.Close()
			return
		}
		out := up.(*net.TCPConn)
		var wg sync.WaitGroup
		wg.Go(func() { r.copy(out, in) })
		r.copy(in, out)
		wg.Wait()
		in.Close()
		out.Close()
	})
	return r, nil
}

func (r *relay) address() string { return r.ln.Addr().String() }
func (r *relay) close()          { r.ln.Close() }

// late is a piece on its way.
type late struct {
	b  []byte
	at time.Time
}

// copy reads as fast as it comes and writes each piece when its time has come.
func (r *relay) copy(dst, src *net.TCPConn) {
	way := make(chan late, 16<<10) // closed by the reader
	go func() {
		defer close(way)
		var free time.Time // when a packet that was lost has come
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			if n > 0 {
				r.bytes.Add(int64(n))
				at := time.Now().Add(r.delay)
				if r.lost(n) {
					free = at.Add(2 * r.delay)
				}
				if free.After(at) {
					at = free
				}
				way <- late{b[:n], at}
			}
			if err != nil {
				return
			}
		}
	}()
	for l := range way {
		wait := time.NewTimer(time.Until(l.at))
		<-wait.C
		if _, err := dst.Write(l.b); err != nil {
			src.Close()
			for range way {
			}
			return
		}
	}
	dst.CloseWrite()
}
