package httpguard

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stringConn is a connection from which a text is read.
type stringConn struct {
	net.Conn
	io.Reader
}

func (c stringConn) Read(p []byte) (int, error)      { return c.Reader.Read(p) }
func (c stringConn) Close() error                    { return nil }
func (c stringConn) SetDeadline(time.Time) error     { return nil }
func (c stringConn) SetReadDeadline(time.Time) error { return nil }

// through returns what a guard lets through, the offsets at which it saw a request begin, and how it ended.
func through(r io.Reader) (passed []byte, heads []int, g *Guard, err error) {
	g = New(stringConn{Reader: r})
	buf := make([]byte, 97)
	for {
		atStart := g.open == 0 && g.state == atHead
		n, err := g.Read(buf)
		if n > 0 && atStart {
			heads = append(heads, len(passed))
		}
		passed = append(passed, buf[:n]...)
		if err != nil {
			return passed, heads, g, err
		}
	}
}

const get = "GET http://a/ HTTP/1.1\r\nHost: a\r\n"

// attempt is a request that HTTP implementations read differently. Want is the status, 0 if the request may pass.
type attempt struct {
	Name, Request string
	Want          int
}

// smuggling reads the attempts, which the tests of the whole proxy make as well.
func smuggling(t testing.TB) []attempt {
	t.Helper()
	b, err := os.ReadFile("testdata/smuggling.json")
	var list []attempt
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(list,
		attempt{"header of 40 KB", get + "X: " + strings.Repeat("y", 40<<10) + "\r\n\r\n", 431},
		attempt{"line of 40 KB without an end", "GET http://" + strings.Repeat("y", 40<<10), 431},
		attempt{"200 fields", get + strings.Repeat("X: y\r\n", 200) + "\r\n", 431})
}

func TestSmuggling(t *testing.T) {
	for _, tt := range smuggling(t) {
		for _, read := range []struct {
			name string
			r    io.Reader
		}{
			{"at once", strings.NewReader(tt.Request)},
			{"byte by byte", iotest.OneByteReader(strings.NewReader(tt.Request))},
		} {
			t.Run(tt.Name+", "+read.name, func(t *testing.T) {
				passed, _, g, err := through(read.r)
				if err != io.EOF {
					t.Errorf("ended by %v", err)
				}
				refused := g.Refused()
				switch {
				case tt.Want == 0:
					if want := strings.TrimPrefix(tt.Request, "\r\n"); refused != nil || string(putBack(passed)) != want {
						t.Errorf("%v, passed %q; want %q", refused, passed, want)
					}
				case refused == nil || refused.Status != tt.Want || string(passed) != refusedRequest:
					t.Errorf("%+v, passed %q; want status %d", refused, passed, tt.Want)
				}
			})
		}
	}
}

func TestABodyThatIsNoBodyEndsTheConnection(t *testing.T) {
	const head = "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct{ name, body string }{
		{"no size", "\r\n\r\n"},
		{"size with a sign", "+5\r\nhello\r\n0\r\n\r\n"},
		{"size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"},
		{"size with a space before", " 5\r\nhello\r\n0\r\n\r\n"},
		{"size with a space after", "5 \r\nhello\r\n0\r\n\r\n"},
		{"size that overflows", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
		{"size ends with LF", "5\nhello\r\n0\r\n\r\n"},
		{"size ends with CR", "5\rhello\r\n0\r\n\r\n"},
		{"extension with LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"},
		{"extension with NUL", "5;\x00\r\nhello\r\n0\r\n\r\n"},
		{"endless extension", "5;" + strings.Repeat("a", 2<<10) + "\r\nhello\r\n0\r\n\r\n"},
		{"data too long", "5\r\nhello!\r\n0\r\n\r\n"},
		{"data ends with LF", "5\r\nhello\n0\r\n\r\n"},
		{"data ends with CR CR", "5\r\nhello\r\r0\r\n\r\n"},
		{"trailer with a length", "0\r\nContent-Length: 5\r\n\r\n"},
		{"trailer with a host", "0\r\nHost: b\r\n\r\n"},
		{"folded trailer", "0\r\nX: y\r\n z\r\n\r\n"},
		{"trailer ends with LF", "0\r\nX: y\n\r\n"},
		{"endless trailers", "0\r\n" + strings.Repeat("X: y\r\n", 10<<10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			passed, _, _, err := through(iotest.HalfReader(strings.NewReader(head + tt.body + get + "\r\n")))
			var refused *Refusal
			if !errors.As(err, &refused) || refused.Status/100 != 4 {
				t.Errorf("ended by %v", err)
			}
			if bytes.Contains(passed, []byte("GET")) {
				t.Errorf("passed %q", passed)
			}
		})
	}
}

func TestRequestsPassAsTheyAre(t *testing.T) {
	requests := get + "\r\n" +
		"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/" +
		"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=\"y\"\r\nhello\r\nA\r\n0123456789\r\n000\r\nX: y\r\n\r\n" +
		"POST http://a/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n" +
		"PUT http://a/ HTTP/1.1\r\nHost:a\r\nX:\ty \r\nContent-Length: \t3 \r\n\r\nabc" +
		"CONNECT a:1 HTTP/1.0\r\n\r\n\x00\xffnot HTTP at all\n\n"
	passed, heads, _, err := through(iotest.OneByteReader(strings.NewReader(requests)))
	if diff := cmp.Diff(requests, string(putBack(passed))); diff != "" || err != io.EOF {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if len(heads) != 6 {
		t.Errorf("saw requests at %v, want 6", heads)
	}
}

func TestOnlyTheBadOneOfPipelinedRequestsIsReplaced(t *testing.T) {
	good := get + "\r\n"
	passed, _, g, _ := through(strings.NewReader(good + good + "GET / HTTP/3\r\n\r\n" + good))
	if string(putBack(passed)) != good+good+refusedRequest || g.Refused() == nil {
		t.Errorf("passed %q", passed)
	}
}

// FuzzGuard: where the guard sees a request begin, net/http sees one begin, and the other way round; what passes is
// what came.
func FuzzGuard(f *testing.F) {
	for _, tt := range smuggling(f) {
		if len(tt.Request) < 1<<10 {
			f.Add([]byte(tt.Request))
		}
	}
	f.Add([]byte("POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n" + get + "\r\n"))
	f.Add([]byte("POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd" + get + "\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		passed, heads, g, _ := through(bytes.NewReader(input))
		slow, _, _, _ := through(iotest.OneByteReader(bytes.NewReader(input)))
		if !bytes.HasPrefix(passed, slow) && !bytes.HasPrefix(slow, passed) {
			t.Fatalf("passed %q at once and %q byte by byte", passed, slow)
		}
		came := passed
		if g.Refused() != nil {
			came = bytes.TrimSuffix(passed, []byte(refusedRequest))
		}
		if !isSubsequence(putBack(came), input) {
			t.Fatalf("passed %q, which did not come", came)
		}
		if g.state == unguarded {
			return
		}
		for i, at := range netHTTPHeads(passed) {
			if i >= len(heads) || heads[i] != at {
				t.Fatalf("net/http sees request %d at %d, the guard sees requests at %v, of %q", i, at, heads, passed)
			}
		}
	})
}

// taken is what the guard makes of the first lines of a request in absolute form.
var taken = regexp.MustCompile(`(?i)([^ \r\n]+ (?:http|ws)://[^ /?#\r\n]*)/ (HTTP/1\.[01])\r\nZtm-Target: ([^\r\n]*)\r\n`)

// putBack puts the targets of requests back to where they were.
func putBack(passed []byte) []byte { return taken.ReplaceAll(passed, []byte("$1$3 $2\r\n")) }

// isSubsequence reports whether sub is input with some empty lines left out.
func isSubsequence(sub, input []byte) bool {
	for _, b := range sub {
		i := bytes.IndexByte(input, b)
		if i < 0 {
			return false
		}
		input = input[i+1:]
	}
	return true
}

// netHTTPHeads returns where net/http sees requests begin.
func netHTTPHeads(b []byte) (heads []int) {
	r := bytes.NewReader(b)
	br := bufio.NewReader(r)
	for {
		at := len(b) - r.Len() - br.Buffered()
		req, err := http.ReadRequest(br)
		if err != nil {
			return heads
		}
		heads = append(heads, at)
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return heads
		}
	}
}
