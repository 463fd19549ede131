package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/proxy/clients"
)

func TestWebSocket(t *testing.T) {
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, rw)
	})
	upgrade := "GET %s HTTP/1.1\r\nHost: svc.example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
	for name, prefix := range map[string]string{
		"forwarded": fmt.Sprintf(upgrade, "http://svc.example.com/"),
		"CONNECT":   "CONNECT svc.example.com:80 HTTP/1.1\r\nHost: a\r\n\r\n" + fmt.Sprintf(upgrade, "/"), // without waiting
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTCP(t, address)
			br := bufio.NewReader(c)
			io.WriteString(c, prefix)
			if name == "CONNECT" {
				if res, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil || res.StatusCode != 200 {
					t.Fatalf("%v, %v", res, err)
				}
			}
			res, err := http.ReadResponse(br, nil)
			if err != nil || res.StatusCode != 101 {
				t.Fatalf("%v, %v", res, err)
			}
			for i := range 100 {
				frame := bytes.Repeat([]byte{byte(i), '\n', 0}, i*50+1) // no HTTP, whatever it looks like
				c.Write(frame)
				got := make([]byte, len(frame))
				if _, err := io.ReadFull(br, got); err != nil || !bytes.Equal(got, frame) {
					t.Fatalf("frame %d: %v", i, err)
				}
			}
		})
	}
}

// TestStreamsOfHTTP2 is what gRPC needs: HTTP/2 over CONNECT, both directions at once, trailers, many streams.
func TestStreamsOfHTTP2(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		for buf := make([]byte, 100); ; {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("Grpc-Status", r.Proto)
	})
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	address, _, _ := entranceTo(t, server.Listener.Addr().String())
	client := clientOf(t, address, "")
	var streams sync.WaitGroup
	for i := range 50 {
		streams.Go(func() { converse(t, client, fmt.Sprint("stream ", i)) })
	}
	streams.Wait()
}

// converse sends one message after the other on a stream, each after the answer to the one before.
func converse(t *testing.T, client *http.Client, text string) {
	r, w := io.Pipe()
	req, _ := http.NewRequest("POST", "https://svc.example.com/", r)
	res, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	for range 5 {
		io.WriteString(w, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", text, got, err)
			return
		}
	}
	w.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "HTTP/2.0" {
		t.Errorf("%s: %v, trailers %v", text, err, res.Trailer)
	}
}

func TestAClientThatGoesWhileTheTargetThinksLetsItGo(t *testing.T) {
	asked, gone := make(chan struct{}), make(chan struct{})
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	})
	c := dialTCP(t, address)
	io.WriteString(c, "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\n\r\n")
	<-asked
	c.SetLinger(0)
	c.Close() // resets: one that only ends its direction may still read
	select {
	case <-gone:
	case <-time.After(timeout):
		t.Error("the request goes on")
	}
}

func TestAThousandConnections(t *testing.T) {
	appstest.Long(t)
	const many = 1000
	here := make(chan struct{}, many)
	open := make(chan struct{})
	server := serveTCP(t, func(c *net.TCPConn) {
		here <- struct{}{}
		<-open // all of them are there at the same time
		io.Copy(c, c)
	})
	address, in, out := entranceTo(t, server)
	var work sync.WaitGroup
	errs := make(chan error, many)
	for i := range many {
		work.Go(func() { errs <- oneOfMany(address, i) })
	}
	for range many {
		select {
		case <-here:
		case err := <-errs:
			t.Fatal(err)
		case <-time.After(3 * timeout):
			t.Fatal("not all arrived")
		}
	}
	appstest.Eventually(t, "all flows", func() bool { return in.app.entrance.clients.Count() == many && out.app.exit.Running() == many })
	close(open)
	work.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	appstest.Eventually(t, "the end of all", func() bool { return in.app.entrance.clients.Count() == 0 && out.app.exit.Running() == 0 })
}

// oneOfMany talks to the echo, by SOCKS or by CONNECT.
func oneOfMany(address string, i int) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * timeout))
	request, answer := "\x05\x01\x00\x05\x01\x00\x03\x0fsvc.example.com\x00\x50", make([]byte, 12)
	if i%2 == 0 {
		request, answer = "CONNECT svc.example.com:80 HTTP/1.1\r\nHost: a\r\n\r\n", make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	}
	io.WriteString(c, request)
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	text := bytes.Repeat([]byte(fmt.Sprint("connection ", i)), 100)
	go c.Write(text) // ends with c
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, text) {
		return errors.New("another connection's bytes")
	}
	return nil
}

// addressed is a connection from somewhere.
type addressed struct {
	net.Conn
	from string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.from))
}

func TestTooManyClientsAreTurnedAway(t *testing.T) {
	in, _ := pair(t, Options{}, "*.example.com")
	s := in.app.entrance.clients
	var inside []func()
	for range clients.Most {
		near, far := net.Pipe()
		far.Close()
		leave, ok := s.Enter(clients.NewClient(addressed{near, "127.0.0.1:1"}))
		if !ok {
			t.Fatal("turned away too early")
		}
		inside = append(inside, leave)
	}
	address := in.listen(t)
	if b, err := io.ReadAll(dialTCP(t, address)); len(b) > 0 || err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("turned away by %v", err) // a reset is as good as an end
	}
	if leave, ok := s.Enter(clients.NewClient(addressed{nil, "192.0.2.1:1"})); !ok {
		t.Error("a client of another host is turned away")
	} else {
		leave()
	}
	for _, leave := range inside {
		leave()
	}
	if answer := exchange(t, address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 400") {
		t.Errorf("got %q", answer)
	}
}

// FuzzHTTP: whatever a client sends, it gets whole responses or none, and the target gets only requests that the
// client could have meant.
func FuzzHTTP(f *testing.F) {
	for _, tt := range smugglingAttempts(f) {
		if len(tt.Request) < 1<<10 {
			f.Add([]byte(strings.ReplaceAll(tt.Request, "http://a/", "http://svc.example.com/")))
		}
	}
	f.Add([]byte("GET /proxy.pac HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	f.Add([]byte("CONNECT svc.example.com:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	address, _, _ := webTarget(f, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 || len(input) > 4<<10 || input[0] < 'A' || input[0] > 'Z' {
			return
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(timeout))
		c.Write(input)
		c.(*net.TCPConn).CloseWrite()
		br := bufio.NewReader(c)
		for {
			if _, err := br.Peek(1); err != nil {
				if errors.Is(err, net.ErrClosed) || isTimeoutError(err) {
					t.Fatalf("no end: %v", err)
				}
				return
			}
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				return // after CONNECT, or in the middle of a body: not ours to judge
			}
			io.Copy(io.Discard, res.Body)
			if !slices.Contains([]int{200, 204, 400, 403, 405, 407, 408, 411, 413, 414, 417, 421, 431, 501, 502, 503, 504, 505, 508, 100, 101, 404}, res.StatusCode) {
				t.Fatalf("status %d: %v", res.StatusCode, res)
			}
		}
	})
}

func isTimeoutError(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
