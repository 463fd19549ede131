package flow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/answer"
	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
	"ztm/tunnel/splice"
	"ztm/tunnel/tuning"
)

// session is a client connection to a server with the handler, over loopback TCP.
func session(t testing.TB, handler http.HandlerFunc) *h2.Conn {
	t.Helper()
	near, far := tcpPair(t)
	return sessionOver(t, near, far, handler)
}

func sessionOver(t testing.TB, near, far net.Conn, handler http.HandlerFunc) *h2.Conn {
	server := h2.NewServer(handler, tuning.Sealed)
	server.Serve(&h2.Tagged{Conn: far})
	cc := h2.Client(near, tuning.Sealed(0))
	t.Cleanup(func() {
		cc.Close()
		server.Close()
	})
	return cc
}

func tcpPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// exits is a session to an exit that accepts every flow.
type exits struct {
	*h2.Conn
	accepted chan error // gets how each flow was accepted; capacity for all of a test
}

// serve accepts every flow and runs f on it. Open flows with [open], which waits for that: a peer
// that resets a flow may do so before the exit has accepted it.
func serve(t testing.TB, datagrams bool, f func(c *Conn)) *exits {
	t.Helper()
	near, far := tcpPair(t)
	return serveOver(t, near, far, datagrams, f)
}

func serveOver(t testing.TB, near, far net.Conn, datagrams bool, f func(c *Conn)) *exits {
	accepted := make(chan error, 1000)
	cc := sessionOver(t, near, far, func(_ http.ResponseWriter, r *http.Request) {
		c, err := Accept(h2.StreamOf(r), datagrams, nil)
		accepted <- err
		if err != nil {
			return
		}
		f(c)
		c.Finish()
	})
	return &exits{cc, accepted}
}

func open(t testing.TB, to *exits, datagrams bool) *Conn {
	t.Helper()
	c, err := Open(t.Context(), to.Conn, request(), datagrams, nil)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if err := <-to.accepted; err != nil {
		t.Fatalf("the exit did not accept: %v", err)
	}
	t.Cleanup(func() { c.Reset() })
	return c
}

func TestEachDirectionEndsByItself(t *testing.T) {
	got := make(chan []byte, 1)
	cc := serve(t, false, func(c *Conn) {
		b, err := io.ReadAll(c) // the entrance's end comes first
		if err != nil {
			t.Errorf("exit reads: %v", err)
		}
		got <- b
		c.Write([]byte("answer after your end"))
		c.CloseWrite()
	})
	c := open(t, cc, false)
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("question", string(<-got)); diff != "" {
		t.Errorf("at the exit (-want +got):\n%s", diff)
	}
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "answer after your end" {
		t.Errorf("entrance reads %q, %v", b, err)
	}
	c.Close()
}

func TestTheExitMayEndFirst(t *testing.T) {
	got := make(chan string, 1)
	cc := serve(t, false, func(c *Conn) {
		c.Write([]byte("banner"))
		c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	})
	c := open(t, cc, false)
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "banner" {
		t.Fatalf("entrance reads %q, %v", b, err)
	}
	c.Write([]byte("still here"))
	c.Close()
	if diff := cmp.Diff("still here", <-got); diff != "" {
		t.Errorf("after its own end the exit reads (-want +got):\n%s", diff)
	}
}

func TestResetIsSeenAsAFailureNotAnEnd(t *testing.T) {
	t.Run("by the entrance", func(t *testing.T) {
		got := make(chan error, 1)
		cc := serve(t, false, func(c *Conn) {
			_, err := io.Copy(io.Discard, c)
			got <- err
		})
		c := open(t, cc, false)
		c.Write([]byte("x"))
		c.Reset()
		if err := <-got; err == nil {
			t.Error("the exit read a clean end")
		}
	})
	t.Run("by the exit", func(t *testing.T) {
		cc := serve(t, false, func(c *Conn) {
			io.ReadFull(c, make([]byte, 1))
			c.Write([]byte("half of"))
			c.Reset()
		})
		c := open(t, cc, false)
		c.Write([]byte("x"))
		if _, err := io.ReadAll(c); err == nil {
			t.Error("the entrance read a clean end")
		}
	})
}

func TestBytesArriveAsTheyWereSent(t *testing.T) {
	data := make([]byte, 20<<20)
	chacha := rand.NewChaCha8([32]byte{1})
	chacha.Read(data)
	want := sha256.Sum256(data)
	ways := map[string]func(*Conn) error{
		"Write": func(c *Conn) error {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+int(chacha.Uint64()%100_000))
				if _, err := c.Write(rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
			}
			return c.CloseWrite()
		},
		"ReadFrom": func(c *Conn) error {
			if _, err := c.ReadFrom(bytes.NewReader(data)); err != nil {
				return err
			}
			return c.CloseWrite()
		},
	}
	readers := map[string]func(*Conn, io.Writer) error{
		"Read":    func(c *Conn, w io.Writer) error { _, err := io.Copy(w, struct{ io.Reader }{c}); return err },
		"WriteTo": func(c *Conn, w io.Writer) error { _, err := c.WriteTo(w); return err },
	}
	for wname, write := range ways {
		for rname, read := range readers {
			t.Run(wname+" and "+rname, func(t *testing.T) {
				up := make(chan []byte, 1)
				cc := serve(t, false, func(c *Conn) {
					h := sha256.New()
					if err := read(c, h); err != nil {
						t.Errorf("exit reads: %v", err)
					}
					up <- h.Sum(nil)
					if err := write(c); err != nil {
						t.Errorf("exit writes: %v", err)
					}
				})
				c := open(t, cc, false)
				if err := write(c); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(<-up, want[:]) {
					t.Error("the exit got other bytes")
				}
				h := sha256.New()
				if err := read(c, h); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(h.Sum(nil), want[:]) {
					t.Error("the entrance got other bytes")
				}
				if diff := cmp.Diff([]int64{int64(len(data)), int64(len(data))}, []int64{c.Sent(), c.Received()}); diff != "" {
					t.Errorf("counters (-want +got):\n%s", diff)
				}
				c.Close()
			})
		}
	}
}

func TestAReaderThatStopsMakesTheWriterStop(t *testing.T) {
	release := make(chan struct{})
	cc := serve(t, false, func(c *Conn) { <-release })
	c := open(t, cc, false)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.ReadFrom(io.LimitReader(zeros{}, 1<<30))
		wrote <- err
	}()
	// The writer comes to rest below the windows of the stream; Sent says where.
	last := int64(-1)
	for n := c.Sent(); n != last || n == 0; n = c.Sent() {
		last = n
		for range 100 {
			runtime.Gosched()
		}
		if n > 16<<20 {
			t.Fatal("the writer does not stop")
		}
	}
	c.Reset()
	close(release)
	if err := <-wrote; err == nil {
		t.Error("the stalled write reported success")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// plainDedicated is a dedicated connection without TLS.
type plainDedicated struct{ *net.TCPConn }

func (d plainDedicated) Reset() error {
	d.SetLinger(0)
	return d.Close()
}

func dedicated(t testing.TB) (near, far plainDedicated) {
	n, f := tcpPair(t)
	return plainDedicated{n.(*net.TCPConn)}, plainDedicated{f.(*net.TCPConn)}
}

func TestBytesKeepTheirOrderWhenAFlowIsOffloaded(t *testing.T) {
	data := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{2}).Read(data)
	want := sha256.Sum256(data)
	near, far := dedicated(t)
	moved := make(chan struct{})
	cc := serve(t, false, func(c *Conn) {
		go func() { <-moved; c.Offload(far) }()
		h := sha256.New()
		if _, err := c.WriteTo(h); err != nil { // the entrance's end came by the dedicated connection
			t.Errorf("exit reads: %v", err)
		}
		if !bytes.Equal(h.Sum(nil), want[:]) {
			t.Error("the exit got other bytes")
		}
		if _, err := c.ReadFrom(bytes.NewReader(data)); err != nil {
			t.Errorf("exit writes: %v", err)
		}
		c.CloseWrite()
	})
	c := open(t, cc, false)
	c.OnOffload(func() { close(moved); c.Offload(near) })
	if _, err := c.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, struct{ io.Reader }{c}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.Sum(nil), want[:]) {
		t.Error("the entrance got other bytes")
	}
	if !c.Offloaded() {
		t.Error("the flow did not move")
	}
	c.Close()
}

func TestAResetReachesTheOtherSideOfADedicatedConnection(t *testing.T) {
	near, far := dedicated(t)
	got := make(chan error, 1)
	cc := serve(t, false, func(c *Conn) {
		c.Offload(far)
		_, err := io.Copy(io.Discard, c)
		got <- err
	})
	c := open(t, cc, false)
	c.Offload(near)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	c.Reset()
	if err := <-got; err == nil {
		t.Error("the exit read a clean end")
	}
}

func TestADedicatedConnectionThatComesTooLateIsReset(t *testing.T) {
	near, far := dedicated(t)
	cc := serve(t, false, func(c *Conn) { io.Copy(io.Discard, c) })
	c := open(t, cc, false)
	c.Close()
	c.Offload(near)
	if _, err := far.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("got %v", err)
	}
}

// The app at the exit says something and closes, without reading. Whoever joins the flow with a
// connection gets all of it, though the other direction of the flow is over.
func TestTheAnswerOfAnExitThatClosesAtOnceArrives(t *testing.T) {
	cc := serve(t, false, func(c *Conn) {
		c.Write([]byte("all there is"))
		c.Close()
	})
	for range 100 {
		c := open(t, cc, false)
		client, near := tcpPair(t)
		joined := make(chan struct{})
		go func() {
			splice.Join(context.Background(), near, c)
			close(joined)
		}()
		got, err := io.ReadAll(client)
		if err != nil || string(got) != "all there is" {
			t.Fatalf("got %q, %v", got, err)
		}
		client.Close()
		<-joined
	}
}

func TestDatagramsKeepTheirBounds(t *testing.T) {
	cc := serve(t, true, func(c *Conn) {
		buf := make([]byte, capsule.MaxDatagram)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			c.Write(buf[:n])
		}
	})
	c := open(t, cc, true)
	for _, size := range []int{0, 1, 1200, 16384, 32768, capsule.MaxDatagram} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, capsule.MaxDatagram)
		n, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("datagram of %d bytes came back with %d, %v", size, n, err)
		}
	}
	if _, err := c.Write(make([]byte, capsule.MaxDatagram+1)); err == nil {
		t.Error("a datagram over the limit was sent")
	}
	c.CloseWrite()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end %d bytes came, %v", n, err)
	}
	c.Close()
}

func deny(w http.ResponseWriter, _ *http.Request) {
	answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(answer.Denied, "no"))
}

// wantNo wants the refusal of [deny].
func wantNo(t *testing.T, err error) {
	t.Helper()
	var no *Refused
	if !errors.As(err, &no) || no.Reason.Code != answer.Denied || no.Reason.Message != "no" {
		t.Fatalf("got %v", err)
	}
}

func TestARefusalHasItsOwnBody(t *testing.T) {
	cc := session(t, deny)
	_, err := Open(t.Context(), cc, request(), false, nil)
	wantNo(t, err)
}

func TestOpeningEndsWithItsContext(t *testing.T) {
	started := make(chan struct{})
	cc := session(t, func(_ http.ResponseWriter, r *http.Request) { close(started); <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := Open(ctx, cc, request(), false, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkFlow(b *testing.B) {
	for _, dir := range []string{"up", "down"} {
		b.Run(dir, func(b *testing.B) {
			done := make(chan struct{})
			cc := serve(b, false, func(c *Conn) {
				if dir == "up" {
					c.WriteTo(io.Discard)
				} else {
					c.ReadFrom(io.LimitReader(zeros{}, int64(b.N)<<20))
				}
				close(done)
			})
			c := open(b, cc, false)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			b.ResetTimer()
			if dir == "up" {
				c.ReadFrom(io.LimitReader(zeros{}, int64(b.N)<<20))
				c.CloseWrite()
			} else {
				c.WriteTo(io.Discard)
			}
			<-done
			c.Close()
		})
	}
}
