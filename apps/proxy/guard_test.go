package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
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
func through(r io.Reader) (passed []byte, heads []int, g *guard, err error) {
	g = newGuard(stringConn{Reader: r})
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

// smuggling is a table of requests that HTTP implementations read differently. want is the status, 0 if the request
// may pass.
var smuggling = []struct {
	name, request string
	want          int
}{
	{"nothing wrong", get + "\r\n", 0},
	{"one empty line before", "\r\n" + get + "\r\n", 0},
	{"two empty lines before", "\r\n\r\n" + get + "\r\n", 400},
	{"two lengths that differ", get + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400},
	{"two lengths that agree", get + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"two lengths in one field", get + "Content-Length: 5, 5\r\n\r\nhello", 400},
	{"two lengths in other letters", get + "Content-Length: 5\r\ncontent-LENGTH: 6\r\n\r\nhello!", 400},
	{"length with a sign", get + "Content-Length: +5\r\n\r\nhello", 400},
	{"negative length", get + "Content-Length: -5\r\n\r\nhello", 400},
	{"hexadecimal length", get + "Content-Length: 0x5\r\n\r\nhello", 400},
	{"length with an underscore", get + "Content-Length: 1_0\r\n\r\nhellohello", 400},
	{"empty length", get + "Content-Length:\r\n\r\n", 400},
	{"length beyond all bounds", get + "Content-Length: 99999999999999999999\r\n\r\n", 400},
	{"length and chunks", get + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunks and length", get + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
	{"two codings", get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked is not the last coding", get + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501},
	{"a coding before chunked", get + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"a coding that looks like chunked", get + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
	{"chunked in quotes", get + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501},
	{"chunked after a vertical tab", get + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked with a space in the name", get + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked with a tab in the name", get + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked in a folded field", get + "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked on a folded line", get + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked after a bare LF", get + "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked after a bare CR", get + "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked after NUL", get + "X: y\x00\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"chunked in HTTP/1.0", "GET http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"header that ends with LF LF", get + "\n", 400},
	{"first field is folded", "GET http://a/ HTTP/1.1\r\n Host: a\r\n\r\n", 400},
	{"two hosts", get + "Host: b\r\n\r\n", 400},
	{"field without a colon", get + "Host\r\n\r\n", 400},
	{"field without a name", get + ": x\r\n\r\n", 400},
	{"name with a control character", get + "X\x01: y\r\n\r\n", 400},
	{"space in the target", "GET http://a/ b HTTP/1.1\r\nHost: a\r\n\r\n", 505},
	{"tab in the target", "GET http://a/\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"two spaces", "GET  http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"DEL in the target", "GET http://a/\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"CR in the target", "GET http://a/\rb HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"raw UTF-8 in the target", "GET http://a/\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", 0},
	{"a lone % in the target", "GET http://a/100%?% HTTP/1.1\r\nHost: a\r\n\r\n", 0},
	{"a field of the guard's", "GET http://a/b HTTP/1.1\r\nHost: a\r\nZtm-Target: /c\r\n\r\n", 0},
	{"no version", "GET http://a/\r\n\r\n", 400},
	{"HTTP/0.9", "GET http://a/ HTTP/0.9\r\nHost: a\r\n\r\n", 505},
	{"HTTP/1.1 with something", "GET http://a/ HTTP/1.1x\r\nHost: a\r\n\r\n", 505},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"CONNECT with a length", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"CONNECT with chunks", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"header of 40 KB", get + "X: " + strings.Repeat("y", 40<<10) + "\r\n\r\n", 431},
	{"line of 40 KB without an end", "GET http://" + strings.Repeat("y", 40<<10), 431},
	{"200 fields", get + strings.Repeat("X: y\r\n", 200) + "\r\n", 431},
}

func TestSmuggling(t *testing.T) {
	for _, tt := range smuggling {
		for _, read := range []struct {
			name string
			r    io.Reader
		}{
			{"at once", strings.NewReader(tt.request)},
			{"byte by byte", iotest.OneByteReader(strings.NewReader(tt.request))},
		} {
			t.Run(tt.name+", "+read.name, func(t *testing.T) {
				passed, _, g, err := through(read.r)
				if err != io.EOF {
					t.Errorf("ended by %v", err)
				}
				refused := g.refused.Load()
				switch {
				case tt.want == 0:
					if want := strings.TrimPrefix(tt.request, "\r\n"); refused != nil || string(putBack(passed)) != want {
						t.Errorf("%v, passed %q; want %q", refused, passed, want)
					}
				case refused == nil || refused.status != tt.want || string(passed) != refusedRequest:
					t.Errorf("%+v, passed %q; want status %d", refused, passed, tt.want)
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
			var refused *refusal
			if !errors.As(err, &refused) || refused.status/100 != 4 {
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
	if string(putBack(passed)) != good+good+refusedRequest || g.refused.Load() == nil {
		t.Errorf("passed %q", passed)
	}
}

// FuzzGuard: where the guard sees a request begin, net/http sees one begin, and the other way round; what passes is
// what came.
func FuzzGuard(f *testing.F) {
	for _, tt := range smuggling {
		if len(tt.request) < 1<<10 {
			f.Add([]byte(tt.request))
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
		if g.refused.Load() != nil {
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
