package splice_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/splice"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// pair makes two connected ends: one for the test, one for Join.
type pair func(t testing.TB) (outer, inner net.Conn)

// listened returns a pair of connections through a listener.
func listened(t testing.TB, network, address string) (outer, inner net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if outer, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if inner, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close(); inner.Close() })
	return outer, inner
}

func tcp(t testing.TB) (outer, inner net.Conn) { return listened(t, "tcp", "127.0.0.1:0") }

func unix(t testing.TB) (outer, inner net.Conn) {
	return listened(t, "unix", filepath.Join(t.TempDir(), "s"))
}

// plain is a connection with the methods of net.Conn, CloseWrite and Reset alone, as wrappers have.
type plain struct{ net.Conn }

func (p plain) CloseWrite() error { return p.Conn.(*net.TCPConn).CloseWrite() }
func (p plain) Reset() error      { splice.Abort(p.Conn); return nil }

func wrapped(t testing.TB) (outer, inner net.Conn) {
	outer, inner = tcp(t)
	return outer, plain{inner}
}

// flow is a connection that moves bytes by its own methods, as a sealed flow does.
type flow struct {
	plain
	read, wrote *int64 // by WriteTo and by ReadFrom
}

func (f flow) WriteTo(w io.Writer) (n int64, err error) {
	n, err = io.Copy(w, struct{ io.Reader }{f.Conn})
	*f.read += n
	return n, err
}

func (f flow) ReadFrom(r io.Reader) (n int64, err error) {
	n, err = io.Copy(struct{ io.Writer }{f.Conn}, r)
	*f.wrote += n
	return n, err
}

func sealed(t testing.TB) (outer, inner net.Conn) {
	outer, inner = tcp(t)
	return outer, flow{plain{inner}, new(int64), new(int64)}
}

// kinds are all kinds of ends that meet in the product.
var kinds = []struct {
	name string
	pair pair
}{{"tcp", tcp}, {"unix", unix}, {"wrapped", wrapped}, {"sealed", sealed}}

// forPairs runs a test for all kinds of ends on both sides.
func forPairs(t *testing.T, test func(t *testing.T, a, b pair)) {
	for _, a := range kinds {
		for _, b := range kinds {
			t.Run(a.name+"-"+b.name, func(t *testing.T) { test(t, a.pair, b.pair) })
		}
	}
}

// run is a Join in progress between two clients.
type run struct {
	a, b   net.Conn // the clients
	done   chan struct{}
	ab, ba int64
	err    error
}

// start joins the inner ends of two pairs.
func start(t testing.TB, ctx context.Context, a, b pair) *run {
	r := &run{done: make(chan struct{})}
	var innerA, innerB net.Conn
	r.a, innerA = a(t)
	r.b, innerB = b(t)
	go func() { // ends before the test does: wait, or the cleanup of start
		defer close(r.done)
		r.ab, r.ba, r.err = splice.Join(ctx, innerA, innerB)
		for _, c := range []net.Conn{innerA, innerB} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("Join left a connection open: %v", err)
			}
		}
	}()
	t.Cleanup(func() { r.a.Close(); r.b.Close(); <-r.done })
	return r
}

// wait waits for Join to return and checks what it returned.
func (r *run) wait(t testing.TB, ab, ba int64, err error) {
	t.Helper()
	<-r.done
	if r.ab != ab || r.ba != ba || !errors.Is(r.err, err) || err == nil && r.err != nil {
		t.Errorf("Join returned %d, %d, %v; want %d, %d, %v", r.ab, r.ba, r.err, ab, ba, err)
	}
}

func write(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Error(err)
	}
}

func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
}

// reads checks that what can be read of a connection is want, followed by err; nil is a clean end.
func reads(t testing.TB, c net.Conn, want string, err error) {
	t.Helper()
	got, gotErr := io.ReadAll(c)
	if string(got) != want || !errors.Is(gotErr, err) || err == nil && gotErr != nil {
		t.Errorf("read %q, then %v; want %q, then %v", got, gotErr, want, err)
	}
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	forPairs(t, func(t *testing.T, a, b pair) {
		r := start(t, t.Context(), a, b)
		write(t, r.a, "question")
		closeWrite(t, r.a)
		reads(t, r.b, "question", nil)
		write(t, r.b, "long answer")
		closeWrite(t, r.b)
		reads(t, r.a, "long answer", nil)
		r.wait(t, 8, 11, nil)
	})
}

func TestHalfCloseByTheOtherSideFirst(t *testing.T) {
	forPairs(t, func(t *testing.T, a, b pair) {
		r := start(t, t.Context(), a, b)
		closeWrite(t, r.b)
		reads(t, r.a, "", nil)
		write(t, r.a, "still here")
		closeWrite(t, r.a)
		reads(t, r.b, "still here", nil)
		r.wait(t, 10, 0, nil)
	})
}

func TestBulkArrivesWholeInBothDirections(t *testing.T) {
	size := int64(16 << 20)
	if testing.Short() {
		size = 2 << 20
	}
	forPairs(t, func(t *testing.T, a, b pair) {
		r := start(t, t.Context(), a, b)
		var wg sync.WaitGroup
		var sums [4][]byte
		for i, c := range []net.Conn{r.a, r.b} {
			wg.Go(func() { sums[i] = sendNoise(t, c, uint64(i), size) })
			wg.Go(func() { sums[3-i] = sum(t, c) })
		}
		wg.Wait()
		if !bytes.Equal(sums[0], sums[2]) || !bytes.Equal(sums[1], sums[3]) {
			t.Error("what arrived is not what was sent")
		}
		r.wait(t, size, size, nil)
	})
}

// sendNoise sends random bytes and returns their hash.
func sendNoise(t testing.TB, c net.Conn, seed uint64, size int64) []byte {
	h := sha256.New()
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	if _, err := io.Copy(struct{ io.Writer }{c}, io.TeeReader(io.LimitReader(noise, size), h)); err != nil {
		t.Error(err)
	}
	closeWrite(t, c)
	return h.Sum(nil)
}

func sum(t testing.TB, c net.Conn) []byte {
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil {
		t.Error(err)
	}
	return h.Sum(nil)
}

func TestOwnMethodsOfAConnectionMoveTheBytes(t *testing.T) {
	outerA, innerA := tcp(t)
	outerB, innerB := sealed(t)
	write(t, outerA, "question")
	write(t, outerB, "long answer")
	closeWrite(t, outerA)
	closeWrite(t, outerB)
	if _, _, err := splice.Join(t.Context(), innerA, innerB); err != nil {
		t.Fatal(err)
	}
	f := innerB.(flow)
	if *f.wrote != 8 || *f.read != 11 {
		t.Errorf("ReadFrom moved %d bytes and WriteTo %d, want 8 and 11", *f.wrote, *f.read)
	}
}

// reset ends a connection with a TCP reset.
func reset(t testing.TB, c net.Conn) {
	t.Helper()
	splice.Abort(c)
}

func TestResetReachesTheOtherSide(t *testing.T) {
	for _, k := range kinds {
		if k.name == "unix" {
			continue // has no reset
		}
		t.Run("a-"+k.name, func(t *testing.T) {
			r := start(t, t.Context(), k.pair, tcp)
			write(t, r.a, "half a mess")
			io.ReadFull(r.b, make([]byte, 11))
			reset(t, r.a)
			reads(t, r.b, "", syscall.ECONNRESET)
			r.wait(t, 11, 0, syscall.ECONNRESET)
		})
		t.Run("b-"+k.name, func(t *testing.T) {
			r := start(t, t.Context(), tcp, k.pair)
			write(t, r.b, "half a mess")
			io.ReadFull(r.a, make([]byte, 11))
			reset(t, r.b)
			reads(t, r.a, "", syscall.ECONNRESET)
			r.wait(t, 0, 11, syscall.ECONNRESET)
		})
	}
}

func TestResetAfterHalfCloseReachesTheOtherSide(t *testing.T) {
	r := start(t, t.Context(), tcp, tcp)
	closeWrite(t, r.a)
	reads(t, r.b, "", nil)
	write(t, r.b, "half an answ")
	io.ReadFull(r.a, make([]byte, 12))
	reset(t, r.b)
	reads(t, r.a, "", syscall.ECONNRESET)
	r.wait(t, 0, 12, syscall.ECONNRESET)
}

func TestContextEndResetsBothSides(t *testing.T) {
	appstest.Long(t)
	forPairs(t, func(t *testing.T, a, b pair) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := start(t, ctx, a, b)
		write(t, r.a, "x")
		io.ReadFull(r.b, make([]byte, 1))
		evicted := errors.New("evicted")
		cancel(evicted)
		r.wait(t, 1, 0, evicted)
		for _, c := range []net.Conn{r.a, r.b} {
			if _, ok := c.(*net.TCPConn); ok {
				reads(t, c, "", syscall.ECONNRESET)
			} else {
				reads(t, c, "", nil) // a unix socket has no reset
			}
		}
	})
}

func TestContextThatHasEndedResetsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := start(t, ctx, tcp, tcp)
	reads(t, r.a, "", syscall.ECONNRESET)
	reads(t, r.b, "", syscall.ECONNRESET)
	r.wait(t, 0, 0, context.Canceled)
}

// stall writes to a connection until nothing more is taken, and returns how many bytes were.
func stall(t testing.TB, c net.Conn) (total int64) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for {
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // the wait that says "nothing more"
		n, err := c.Write(chunk)
		total += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.SetWriteDeadline(time.Time{})
			return total
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// socketBuffer is the size of buffers, in bytes, that small asks for; the kernel grants twice as
// much.
const socketBuffer = 128 << 10

// small makes pairs with small buffers, which do not grow.
func small(p pair) pair {
	return func(t testing.TB) (outer, inner net.Conn) {
		outer, inner = p(t)
		for _, c := range []net.Conn{outer, inner} {
			switch w := c.(type) {
			case plain:
				c = w.Conn
			case flow:
				c = w.Conn
			}
			s := c.(interface {
				SetReadBuffer(int) error
				SetWriteBuffer(int) error
			})
			if err := errors.Join(s.SetReadBuffer(socketBuffer), s.SetWriteBuffer(socketBuffer)); err != nil {
				t.Fatal(err)
			}
		}
		return outer, inner
	}
}

func TestStalledReaderHoldsTheWriterBack(t *testing.T) {
	appstest.Long(t)
	// The buffers of two sockets at each of the two hops, and a pipe or a buffer between them.
	const most = 4*2*socketBuffer + 1<<20
	forPairs(t, func(t *testing.T, a, b pair) {
		r := start(t, t.Context(), small(a), small(b))
		before := heap()
		taken := stall(t, r.a)
		if taken > most {
			t.Errorf("%d bytes were taken with nobody reading", taken)
		}
		if grown := heap() - before; grown > 1<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
		closeWrite(t, r.a)
		if n, err := io.Copy(io.Discard, r.b); n != taken || err != nil {
			t.Errorf("%d bytes of %d arrived, %v", n, taken, err)
		}
		closeWrite(t, r.b)
		r.wait(t, taken, 0, nil)
	})
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestContextEndFreesAStalledWriter(t *testing.T) {
	appstest.Long(t)
	forPairs(t, func(t *testing.T, a, b pair) {
		ctx, cancel := context.WithCancel(t.Context())
		r := start(t, ctx, small(a), small(b))
		taken := stall(t, r.a)
		cancel()
		<-r.done
		if !errors.Is(r.err, context.Canceled) || r.ab == 0 || r.ab > taken || r.ba != 0 {
			t.Errorf("Join returned %d, %d, %v after %d bytes were taken", r.ab, r.ba, r.err, taken)
		}
	})
}

func TestConnectionWithoutHalfCloseStaysOpenUntilBothEnd(t *testing.T) {
	inMemory := func(testing.TB) (outer, inner net.Conn) { return net.Pipe() }
	r := start(t, t.Context(), tcp, inMemory)
	closeWrite(t, r.a)         // cannot be passed on
	go write(t, r.b, "answer") // a pipe has no buffer
	io.ReadFull(r.a, make([]byte, 6))
	r.b.Close()
	reads(t, r.a, "", nil)
	r.wait(t, 0, 6, nil)
}

// stubborn is a connection whose CloseWrite fails.
type stubborn struct {
	plain
	err error
}

func (s stubborn) CloseWrite() error {
	s.plain.CloseWrite()
	return s.err
}

func TestFailedHalfCloseIsAFailure(t *testing.T) {
	broken := errors.New("broken")
	r := start(t, t.Context(), tcp, func(t testing.TB) (outer, inner net.Conn) {
		outer, inner = tcp(t)
		return outer, stubborn{plain{inner}, broken}
	})
	closeWrite(t, r.a)
	reads(t, r.a, "", syscall.ECONNRESET)
	r.wait(t, 0, 0, broken)
}

// final is a connection whose Close is enough of an end.
type final struct{ stubborn }

func (final) EndsByClose() bool { return true }

func TestTheLastEndIsSaidByCloseWhereThatIsEnough(t *testing.T) {
	r := start(t, t.Context(), tcp, func(t testing.TB) (outer, inner net.Conn) {
		outer, inner = tcp(t)
		return outer, final{stubborn{plain{inner}, errors.New("CloseWrite was called")}}
	})
	closeWrite(t, r.b)
	reads(t, r.a, "", nil)
	write(t, r.a, "last words")
	closeWrite(t, r.a)
	reads(t, r.b, "last words", nil)
	r.wait(t, 10, 0, nil)
}
