package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ztm/scripts/bench/load"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// each runs f for all members at the same time and adds up what it returns.
func each(all []*member, f func(*member) int) int {
	var total atomic.Int64
	var wg sync.WaitGroup
	for _, a := range all {
		wg.Go(func() { total.Add(int64(f(a))) })
	}
	wg.Wait()
	return int(total.Load())
}

// hold keeps n of what open gives, until ctx ends: what is cut is opened again, with a short pause.
func hold(ctx context.Context, n int, open func(context.Context) (net.Conn, error)) int {
	var opened atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				opened.Add(1)
				if c, err := open(ctx); err == nil {
					stop := context.AfterFunc(ctx, func() { c.Close() })
					io.Copy(io.Discard, c) // until the other side cuts it
					stop()
					c.Close()
				}
				pause(ctx, 100*time.Millisecond)
			}
		})
	}
	wg.Wait()
	return int(opened.Load())
}

// leavePaths asks for paths to the exit, as many as there may be, and never begins the handshake in them.
func leavePaths(ctx context.Context, m *mesh) (t tally, err error) {
	all, err := m.mallories(2)
	if err != nil {
		return t, err
	}
	t.Tried = each(all, func(a *member) int { return hold(ctx, 160, a.relay) })
	return t, nil
}

// longSealedHandshakes shows certificates of 200 KB in the handshake with the exit and leaves out the end.
func longSealedHandshakes(ctx context.Context, m *mesh) (t tally, err error) {
	all, err := m.mallories(4)
	if err != nil {
		return t, err
	}
	t.Tried = each(all, func(a *member) int {
		return hold(ctx, 40, func(ctx context.Context) (net.Conn, error) {
			c, err := a.relay(ctx)
			if err != nil {
				return nil, err
			}
			cert := a.cert
			cert.Certificate = append([][]byte{cert.Certificate[0]}, ballast()...)
			go drip(ctx, c, a.verifier.ClientConfig(cert, identity.RoleMember, m.exit, seal.SessionProto)) // ends with c
			return c, nil
		})
	})
	return t, nil
}

// ballast is what makes a certificate message long: 200 KB that look like more certificates.
func ballast() [][]byte {
	var out [][]byte
	for range 13 {
		b := make([]byte, 15<<10)
		rand.Read(b)
		out = append(out, b)
	}
	return out
}

// drip shakes hands over c and holds back what would end the handshake.
func drip(ctx context.Context, c net.Conn, config *tls.Config) {
	tls.Client(&holding{Conn: c, most: 190 << 10}, config).HandshakeContext(ctx)
}

// holding swallows what is written beyond so many bytes, and never reports an end.
type holding struct {
	net.Conn
	most int
}

func (h *holding) Write(p []byte) (int, error) {
	n := min(len(p), h.most)
	h.most -= n
	if _, err := h.Conn.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *holding) Close() error { return nil }

// manySessions opens sealed sessions with the exit and keeps them.
func manySessions(ctx context.Context, m *mesh) (t tally, err error) {
	all, err := m.mallories(8)
	if err != nil {
		return t, err
	}
	t.Tried = each(all, func(a *member) int {
		return hold(ctx, 40, func(ctx context.Context) (net.Conn, error) {
			s, err := a.seal(ctx)
			if err != nil {
				return nil, err
			}
			near, far := net.Pipe()
			context.AfterFunc(ctx, func() { far.Close() })
			go func() { // ends with the session, or with ctx
				select {
				case <-s.Done():
				case <-ctx.Done():
				}
				s.Close()
				far.Close()
			}()
			return near, nil
		})
	})
	return t, nil
}

// sealed gives each of n sessions of one endpoint to f, again and again.
func sealed(ctx context.Context, m *mesh, n int, f func(*seal.Session) int) (int, error) {
	a, err := m.newMember(attacker)
	if err != nil {
		return 0, err
	}
	var total atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				s, err := a.seal(ctx)
				if err != nil {
					pause(ctx, 100*time.Millisecond)
					continue
				}
				total.Add(int64(f(s)))
				s.Close()
			}
		})
	}
	wg.Wait()
	return int(total.Load()), nil
}

// holdTrust posts trust lists of 4 MiB to the exit and holds back the last byte.
func holdTrust(ctx context.Context, m *mesh) (t tally, err error) {
	t.Tried, err = sealed(ctx, m, 8, func(s *seal.Session) int {
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				body, end := io.Pipe()
				defer context.AfterFunc(ctx, func() { end.CloseWithError(context.Canceled) })()
				go func() { // ends with the pipe
					chunk := bytes.Repeat([]byte{' '}, 64<<10)
					for range 64 {
						if _, err := end.Write(chunk); err != nil {
							return
						}
					}
				}()
				defer body.Close()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://peer"+seal.PathTrust, body)
				if err != nil {
					return
				}
				req.ContentLength = 4<<20 + 1
				if resp, err := s.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		pause(ctx, 50*time.Millisecond)
		return 30
	})
	return t, err
}

// forgeTrust posts trust lists with false signatures: what they cost before they are refused is what counts.
func forgeTrust(ctx context.Context, m *mesh) (t tally, err error) {
	docs, err := forgedLists(m, 300)
	if err != nil {
		return t, err
	}
	var letIn atomic.Int64
	t.Tried, err = sealed(ctx, m, 2, func(s *seal.Session) (n int) {
		for ; ctx.Err() == nil; n++ {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://peer"+seal.PathTrust, bytes.NewReader(docs[n%len(docs)]))
			if err != nil {
				return n
			}
			resp, err := s.RoundTrip(req)
			if err != nil {
				return n
			}
			resp.Body.Close()
			if resp.StatusCode < 300 {
				letIn.Add(1)
			}
			pause(ctx, 2*time.Millisecond)
		}
		return n
	})
	t.LetIn = int(letIn.Load())
	return t, err
}

// refusedFlows asks the exit for the apps of another user.
func refusedFlows(ctx context.Context, m *mesh) (t tally, err error) {
	paths := []string{"/v1/apps/tunnel/tcp/load", "/v1/apps/terminal/shell", "/v1/apps/script/run", "/v1/apps/tunnel/forward/tcp?target=127.0.0.1:22", "/v1/api/meshes", "/v1/apps/proxy/tcp?target=127.0.0.1:22"}
	var letIn atomic.Int64
	t.Tried, err = sealed(ctx, m, 4, func(s *seal.Session) (n int) {
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; n++ {
			<-tick.C
			once, cancel := context.WithTimeout(ctx, 5*time.Second)
			req, err := http.NewRequestWithContext(once, http.MethodPost, "http://peer"+paths[n%len(paths)], http.NoBody)
			if err != nil {
				cancel()
				return n
			}
			req.Header.Set("Capsule-Protocol", "?1")
			req.Header.Set(seal.FieldFlow, rand.Text())
			resp, err := s.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode < 300 {
					letIn.Add(1)
				}
			}
			cancel()
			if err != nil {
				return n
			}
		}
		return n
	})
	t.LetIn = int(letIn.Load())
	return t, err
}

// deadTunnel is an honest client of a tunnel whose exit is off, in a loop without a pause but the answer: nobody attacks, and the healthy
// tunnel beside it must not notice.
func deadTunnel(ctx context.Context, m *mesh) (t tally, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var reached atomic.Int64
	for ; ctx.Err() == nil; t.Tried++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		wg.Go(func() {
			once, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if _, err := load.FirstByte(once, m.dead); err == nil {
				reached.Add(1)
			}
		})
	}
	t.LetIn = int(reached.Load())
	return t, nil
}

// manyClients sends a datagram from each of many sockets at once, and counts those that get no answer.
func manyClients(ctx context.Context, m *mesh) (t tally, err error) {
	const clients = 1500
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c, err := new(net.Dialer).DialContext(ctx, "udp", m.datagrams)
			if err != nil {
				return
			}
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			b := make([]byte, 16)
			for range 8 { // a datagram may be lost on a busy machine; a client that never gets one is not
				c.SetReadDeadline(time.Now().Add(2 * time.Second))
				c.Write(b[:1])
				if _, err := c.Read(b); err == nil {
					answered.Add(1)
					break
				}
			}
			<-ctx.Done() // the flow stands
		})
	}
	wg.Wait()
	t.Tried = clients
	if lost := clients - int(answered.Load()); lost > 0 {
		t.LetIn, t.Note = lost, "(clients without an answer)"
	}
	return t, nil
}
