package web

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

var quiet = slog.New(slog.DiscardHandler)

const timeout = appstest.Timeout

var someID = identity.ID(strings.Repeat("a", 32))

// bench is a console over an API that tells what it was asked, and flows that are pipes.
type bench struct {
	*Console
	t     *testing.T
	asked atomic.Int64  // requests that reached the API
	paths sync.Map      // a path to how often it was asked for, an *atomic.Int64
	body  atomic.Value  // what the API answers, a string
	query atomic.Value  // of the last flow, url.Values
	flows chan net.Conn // the far ends of the flows that were opened
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, flows: make(chan net.Conn, 100)}
	b.body.Store(`{"from":"the API"}`)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	b.Console = New(Host{
		API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.asked.Add(1)
			b.counter(r.URL.Path).Add(1)
			answer.Document(w, []byte(b.body.Load().(string)))
		}),
		Open: func(_ context.Context, mesh string, to identity.ID, path string, query url.Values) (net.Conn, error) {
			b.query.Store(query)
			if mesh != "demo" {
				return nil, answer.Errorf(answer.NotFound, "no such mesh")
			}
			near, far := net.Pipe()
			b.flows <- far
			return near, nil
		},
		Log: quiet, Life: ctx, Go: wg.Go,
	})
	b.listen = func(int) ([]net.Listener, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		return []net.Listener{ln}, err
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		close(b.flows)
		for c := range b.flows {
			c.Close()
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return b
}

func (b *bench) counter(path string) *atomic.Int64 {
	n, _ := b.paths.LoadOrStore(path, &atomic.Int64{})
	return n.(*atomic.Int64)
}

// times is how often the agent was asked for a path.
func (b *bench) times(path string) int64 { return b.counter(path).Load() }

// command asks as `ztm console` does.
func (b *bench) command(method string, in api.Console) (s api.ConsoleState) {
	b.t.Helper()
	body, _ := json.Marshal(in)
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(method, api.ConsolePath, strings.NewReader(string(body))))
	if w.Code >= 300 {
		b.t.Fatalf("%s: %d %s", method, w.Code, w.Body)
	}
	if w.Code != http.StatusNoContent {
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			b.t.Fatal(err)
		}
	}
	return s
}

// browser is a page that was let in.
type browser struct {
	*bench
	origin, key string
}

// invited opens the console and returns its origin and a code.
func (b *bench) invited(in api.Console) (origin, code string) {
	b.t.Helper()
	origin, code, ok := strings.Cut(b.command("POST", in).URL, "/#")
	if !ok {
		b.t.Fatalf("no code in %q", origin)
	}
	return origin, code
}

// enter opens the console and lets a page in.
func (b *bench) enter(in api.Console) *browser {
	b.t.Helper()
	origin, code := b.invited(in)
	p := &browser{bench: b, origin: origin}
	var out admitted
	status, body := p.send("POST", "/session", `{"code":"`+code+`"}`)
	if status != 200 || json.Unmarshal([]byte(body), &out) != nil || out.Key == "" {
		b.t.Fatalf("the code was refused: %d %s", status, body)
	}
	p.key = out.Key
	return p
}

// send sends a request as the page does, with more header lines in pairs.
func (p *browser) send(method, path, body string, header ...string) (status int, answer string) {
	p.t.Helper()
	if p.key != "" {
		header = append(header, KeyHeader, p.key)
	}
	return appstest.Ask(p.t, method, p.origin+path, body, header...)
}

// ticket asks for a ticket.
func (p *browser) ticket(path string) string {
	p.t.Helper()
	var out struct{ Ticket string }
	status, body := p.send("POST", "/tickets", `{"path":"`+path+`"}`)
	if status != 200 || json.Unmarshal([]byte(body), &out) != nil {
		p.t.Fatalf("no ticket: %d %s", status, body)
	}
	return out.Ticket
}

// socket is the browser's end of a WebSocket.
type socket struct {
	net.Conn
	r *bufio.Reader
}

// upgrade asks for a WebSocket with a header, and returns the status.
func (p *browser) upgrade(path string, header ...string) (int, *socket) {
	p.t.Helper()
	host := strings.TrimPrefix(p.origin, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(timeout))
	lines := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for i := 0; i < len(header); i += 2 {
		lines += header[i] + ": " + header[i+1] + "\r\n"
	}
	io.WriteString(conn, lines+"\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, &socket{conn, r}
}

// dial opens a WebSocket as the page does.
func (p *browser) dial(path string) *socket {
	p.t.Helper()
	status, s := p.upgrade(path, "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket(path))
	if status != http.StatusSwitchingProtocols {
		p.t.Fatalf("%s: status %d", path, status)
	}
	return s
}

// write sends a message of up to 64 KiB, with a mask of zeros.
func (s *socket) write(op byte, payload string) error {
	b := binary.BigEndian.AppendUint16([]byte{0x80 | op, 0x80 | 126}, uint16(len(payload)))
	_, err := s.Write(append(append(b, 0, 0, 0, 0), payload...))
	return err
}

// read returns the next message.
func (s *socket) read() (op byte, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(s.r, h[:]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1])
	if size := map[uint64]int{126: 2, 127: 8}[n]; size > 0 {
		var b [8]byte
		if _, err := io.ReadFull(s.r, b[8-size:]); err != nil {
			return 0, "", err
		}
		n = binary.BigEndian.Uint64(b[:])
	}
	b := make([]byte, n)
	_, err = io.ReadFull(s.r, b)
	return h[0] & 0xf, string(b), err
}

// until reads until a text message is as wanted, and returns the bytes that came before.
func (s *socket) until(t *testing.T, want string) (before string) {
	t.Helper()
	for {
		op, p, err := s.read()
		switch {
		case err != nil:
			t.Fatalf("waiting for %s: %v", want, err)
		case op == 1 && strings.Contains(p, want):
			return before
		case op == 2:
			before += p
		}
	}
}
