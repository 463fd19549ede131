package h2

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/h2/budget"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

const timeout = 60 * time.Second

// sockets returns both ends of a loopback connection.
func sockets(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// pair is a client and a server with a handler.
func pair(t testing.TB, handler func(*Stream), change ...func(*Options)) (client, server *Conn) {
	t.Helper()
	a, b := sockets(t)
	o := Options{Handler: handler}
	for _, f := range change {
		f(&o)
	}
	server = ServerConn(b, o)
	o.Handler = nil
	client = Client(a, o)
	t.Cleanup(func() {
		client.Close()
		server.Close()
		client.Wait()
		server.Wait()
	})
	return client, server
}

var get = Fields{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "peer"}, {Name: ":path", Value: "/x"}}

var ok = Fields{{Name: ":status", Value: "200"}}

// echo answers with what comes, each direction by itself.
func echo(s *Stream) {
	s.Respond(ok, false)
	s.Flush()
	io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	s.CloseWrite()
	s.Close()
}

func open(t testing.TB, c *Conn) *Stream {
	t.Helper()
	s, err := c.Open(get, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBytesComeBackAndBothDirectionsEndByThemselves(t *testing.T) {
	c, _ := pair(t, echo)
	for _, size := range []int{0, 1, 100, 5000, 1 << 20, 20 << 20} {
		s := open(t, c)
		data := make([]byte, size)
		rand.Read(data)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Write(data); err != nil {
				t.Error(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
		wg.Wait()
		if f := s.Fields(); f.Get(":status") != "200" {
			t.Errorf("fields %v", f)
		}
		s.Close()
	}
	if open := c.Free(); open != 1024 {
		t.Errorf("%d streams can be opened", open)
	}
}

func TestAServerMayEndItsDirectionFirst(t *testing.T) {
	heard := make(chan string, 1)
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		s.Write([]byte("bye"))
		s.CloseWrite()
		b, err := io.ReadAll(s)
		if err != nil {
			t.Error(err)
		}
		heard <- string(b)
		s.Close()
	})
	s := open(t, c)
	got, err := io.ReadAll(s)
	if string(got) != "bye" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	s.Write([]byte("I am still here"))
	s.CloseWrite()
	if got := <-heard; got != "I am still here" {
		t.Errorf("the server heard %q", got)
	}
	s.Close()
}

func TestAResetIsAFailureAtTheOtherSide(t *testing.T) {
	errs := make(chan error, 1)
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		s.Flush()
		_, err := io.ReadAll(s)
		errs <- err
		s.Close()
	})
	s := open(t, c)
	s.Write([]byte("half"))
	if _, err := s.Response(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	if err := <-errs; err == nil {
		t.Error("a reset looked like an end")
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("a stream can be read after it was reset")
	}
}

func TestTheEndOfTheConnectionIsAFailureOfItsStreams(t *testing.T) {
	c, server := pair(t, echo)
	s := open(t, c)
	s.Write([]byte("x"))
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("error %v", err)
	}
	<-c.Done()
	if _, err := c.Open(get, false); err == nil {
		t.Error("a stream can be opened on a connection that is over")
	}
}

func TestReadersThatStopHoldUpNobodyElse(t *testing.T) {
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		s.Flush()
		if s.Fields().Get(":path") == "/endless" {
			b := make([]byte, 64<<10)
			for {
				if _, err := s.Write(b); err != nil {
					return
				}
			}
		}
		io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
		s.Close()
	})
	for range 40 {
		f := append(Fields(nil), get...)
		f[3].Value = "/endless"
		s, err := c.Open(f, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Response(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
	}
	s := open(t, c)
	defer s.Close()
	for range 1000 {
		b := []byte{1}
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBothSidesMayWriteMoreThanTheWindowsBeforeTheyRead(t *testing.T) {
	const size = 40 << 20
	both := func(s *Stream) error {
		var wg sync.WaitGroup
		var werr error
		wg.Go(func() {
			_, werr = s.Write(make([]byte, size))
			s.CloseWrite()
		})
		n, err := io.Copy(io.Discard, struct{ io.Reader }{s})
		wg.Wait()
		if err == nil && n != size {
			err = errors.New("short")
		}
		return errors.Join(err, werr)
	}
	done := make(chan error, 1)
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		done <- both(s)
		s.Close()
	})
	s := open(t, c)
	if err := both(s); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.Close()
}

func TestWhatIsDeliveredArrivesWholeAndItsEndIsTold(t *testing.T) {
	data := make([]byte, 3<<20)
	rand.Read(data)
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		for n := 1; len(data) > 0; n = n%9000 + 77 { // pieces of all sizes, below and above what a reader writes itself
			m := min(n, len(data))
			if _, err := s.Write(data[:m]); err != nil {
				t.Error(err)
				return
			}
			data = data[m:]
		}
		s.Close()
	})
	want := bytes.Clone(data)
	a, b := sockets(t)
	defer a.Close()
	defer b.Close()
	s := open(t, c)
	ended := make(chan error, 1)
	s.Deliver(a, func(n int64, err error) {
		if n != int64(len(want)) {
			t.Errorf("%d bytes were counted", n)
		}
		a.(*net.TCPConn).CloseWrite()
		ended <- err
	})
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.Close()
}

func TestRequestsOfNetHTTPAreServed(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.WriteHeader(201)
		w.Write(append([]byte(r.URL.Path+" "), b...))
	})
	c, _ := pair(t, Handler(t.Context(), h))
	for _, body := range []string{"", "hello"} {
		r, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://peer/a/b?c=d", bytes.NewReader([]byte(body)))
		resp, err := c.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 201 || string(got) != "/a/b "+body || resp.Header.Get("X-Method") != "PUT" {
			t.Errorf("%v %q %v", resp.StatusCode, got, err)
		}
	}
}

func TestAPingMeasuresTheRoundTrip(t *testing.T) {
	c, _ := pair(t, echo)
	d, err := c.Ping(t.Context())
	if err != nil || d <= 0 {
		t.Errorf("%v, %v", d, err)
	}
	if c.RTT() <= 0 {
		t.Error("the round trip is unknown after a ping")
	}
}

func TestAPeerThatVanishesIsFoundDead(t *testing.T) {
	a, b := sockets(t)
	defer b.Close()
	c := Client(a, Options{Idle: 20 * time.Millisecond, PingWait: 50 * time.Millisecond})
	select {
	case <-c.Done():
	case <-time.After(timeout):
		t.Fatal("the connection lives on")
	}
	var late net.Error
	if err := c.Err(); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("error %v", err)
	}
	c.Wait()
}

func TestTheBudgetIsReturned(t *testing.T) {
	b := &budget.Budget{Limit: 1 << 20}
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		s.Write(make([]byte, 8<<20))
		s.Close()
	}, func(o *Options) { o.Budget, o.Window = b, 512<<10 })
	var wg sync.WaitGroup
	for range 8 {
		s := open(t, c)
		wg.Go(func() {
			n, err := io.Copy(io.Discard, struct{ io.Reader }{s})
			if n != 8<<20 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			s.Close()
		})
	}
	wg.Wait()
	if held := b.Held(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

func TestPingEndsWithItsContextAndLeavesNothing(t *testing.T) {
	a, b := sockets(t)
	defer b.Close()
	c := Client(a, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.mu.Lock()
	if n := len(c.pings); n != 0 {
		t.Errorf("%d wait for an answer", n)
	}
	c.mu.Unlock()
	c.Close()
	c.Wait()
}
