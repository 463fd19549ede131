package flow

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"ztm/tunnel/h2"
	"ztm/tunnel/tuning"
)

// said is an Early that gives what it has and then waits until it is stopped.
type said struct {
	mu      sync.Mutex
	r       io.Reader
	given   int
	stopped chan struct{} // closed by Stop
	once    sync.Once
}

func newSaid(b []byte) *said { return &said{r: bytes.NewReader(b), stopped: make(chan struct{})} }

func (s *said) Read(p []byte) (int, error) {
	s.mu.Lock()
	var n int
	select {
	case <-s.stopped:
	default:
		n, _ = s.r.Read(p)
		s.given += n
	}
	s.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	<-s.stopped
	return 0, io.EOF
}

func (s *said) Stop() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.once.Do(func() { close(s.stopped) })
	return s.given
}

func request() h2.Fields {
	return h2.Fields{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "peer"}, {Name: ":path", Value: "/v1/apps/x"}}
}

func TestEarlyBytesComeBeforeTheAnswerAndOnce(t *testing.T) {
	data := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(data)
	const early = 10_000
	ways := map[string]func(c *Conn) error{
		"ReadFrom": func(c *Conn) error { _, err := c.ReadFrom(struct{ io.Reader }{bytes.NewReader(data)}); return err },
		"Write": func(c *Conn) error {
			for rest := data; len(rest) > 0; {
				n, err := c.Write(rest[:min(len(rest), 777)])
				if err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		},
	}
	for name, write := range ways {
		t.Run(name, func(t *testing.T) {
			got := make(chan []byte, 1)
			cc := session(t, func(_ http.ResponseWriter, r *http.Request) {
				first := make([]byte, early)
				if _, err := io.ReadFull(r.Body, first); err != nil {
					t.Errorf("before the answer: %v", err)
				}
				c, err := Accept(h2.StreamOf(r), false, nil)
				if err != nil {
					t.Error(err)
					return
				}
				rest, err := io.ReadAll(c)
				if err != nil {
					t.Errorf("after the answer: %v", err)
				}
				got <- append(first, rest...)
				c.Finish()
			})
			c, err := Open(t.Context(), cc, request(), false, newSaid(data[:early]))
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			if err := write(c); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(<-got, data) {
				t.Error("the exit got other bytes")
			}
			if c.Sent() != int64(len(data)) {
				t.Errorf("counted %d bytes of %d", c.Sent(), len(data))
			}
			c.Close()
		})
	}
}

func TestARefusalOfAFlowWithEarlyBytesIsReadable(t *testing.T) {
	cc := session(t, deny)
	for range 50 {
		early := newSaid(bytes.Repeat([]byte{1}, 64<<10))
		_, err := Open(t.Context(), cc, request(), false, early)
		wantNo(t, err)
		select {
		case <-early.stopped:
		default:
			t.Fatal("the client is still being read")
		}
	}
}

func TestAPeerThatTakesNoEarlyBytesHoldsUpNoOpeningForLong(t *testing.T) {
	near, far := tcpPair(t)
	cc := h2.Client(near, tuning.Sealed(0))
	defer cc.Close()
	opened := narrowPeer(t, far)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-opened
		cancel()
	}()
	if _, err := Open(ctx, cc, request(), false, newSaid([]byte("hello"))); !errors.Is(err, context.Canceled) {
		t.Errorf("the opening ended with %v, want %v", err, context.Canceled)
	}
}

// narrowPeer speaks HTTP/2 as far as its first words, which give no stream a window. What it returns is
// closed with the first request, which is not answered.
func narrowPeer(t *testing.T, c net.Conn) <-chan struct{} {
	t.Helper()
	const settings, headers, ack = 4, 1, 1
	noWindow := []byte{0, 0, 6, settings, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0}
	if _, err := c.Write(noWindow); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if _, err := r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	next := func() (kind, flags byte, err error) {
		head := make([]byte, 9)
		if _, err := io.ReadFull(r, head); err != nil {
			return 0, 0, err
		}
		_, err = r.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2]))
		return head[3], head[4], err
	}
	for known := false; !known; {
		kind, flags, err := next()
		if err != nil {
			t.Fatal(err)
		}
		known = kind == settings && flags == ack
	}
	opened := make(chan struct{})
	go func() { // ends with the connection
		defer close(opened)
		for kind := byte(settings); kind != headers; {
			var err error
			if kind, _, err = next(); err != nil {
				t.Errorf("no request came: %v", err)
				return
			}
		}
	}()
	return opened
}

func TestNoMoreThanTheLimitIsTakenOfAClientBeforeTheAnswer(t *testing.T) {
	cc := session(t, deny)
	endless := &endlessEarly{}
	_, err := Open(t.Context(), cc, request(), false, endless)
	wantNo(t, err)
	if endless.given > maxEarly {
		t.Errorf("%d bytes were taken from the client, more than %d", endless.given, maxEarly)
	}
}

// endlessEarly gives as many bytes as are asked for.
type endlessEarly struct {
	mu      sync.Mutex
	given   int
	stopped bool
}

func (e *endlessEarly) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return 0, io.EOF
	}
	e.given += len(p)
	return len(p), nil
}

func (e *endlessEarly) Stop() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	return e.given
}

func TestASourceThatEndsWithinTheEarlyBytesEndsReadFrom(t *testing.T) {
	cc := serve(t, false, func(c *Conn) { io.Copy(c, c) })
	c, err := Open(t.Context(), cc.Conn, request(), false, newSaid([]byte("hello")))
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.ReadFrom(strings.NewReader("hello"))
	if n != 5 || err != nil {
		t.Fatalf("ReadFrom: %d, %v", n, err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		t.Errorf("came back: %q, %v", b, err)
	}
	c.Close()
}
