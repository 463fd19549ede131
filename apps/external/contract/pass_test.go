package contract

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// pieces is a connection that says what each write to it is.
type pieces chan string

func (p pieces) Write(b []byte) (int, error) {
	p <- string(b)
	return len(b), nil
}

// sent answers a request with text, which comes in pieces, and returns what Send writes: the n-th piece of
// text comes when n pieces were written.
func sent(t *testing.T, method string, text ...string) (out []string, err error) {
	t.Helper()
	near, app := net.Pipe()
	defer near.Close()
	in, head := Limited(near)
	wrote, done := make(pieces, 64), make(chan error, 1)
	go func() { // ends with the connection
		resp, err := Answer(in, head, &http.Request{Method: method, URL: &url.URL{Path: "/"}})
		if err == nil {
			resp.Close = true
			err = Send(wrote, resp, in)
		}
		close(wrote)
		done <- err
	}()
	for i, piece := range text {
		io.WriteString(app, piece)
		if i+1 == len(text) {
			app.Close()
		} else {
			out = append(out, <-wrote)
		}
	}
	for piece := range wrote {
		out = append(out, piece)
	}
	return out, <-done
}

func TestAnAnswerIsOnePieceAndWhatComesLaterIsAnother(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nX-Own: 1\r\n"
	const end = "Connection: close\r\n"
	for name, x := range map[string]struct {
		method string
		text   []string
		want   []string
	}{
		"all is there":         {"GET", []string{head + "Content-Length: 5\r\n\r\nhello"}, []string{"HTTP/1.1 200 OK\r\n" + end + "Content-Length: 5\r\nX-Own: 1\r\n\r\nhello"}},
		"no body":              {"GET", []string{"HTTP/1.1 204 No Content\r\n\r\n"}, []string{"HTTP/1.1 204 No Content\r\n" + end + "\r\n"}},
		"for HEAD":             {"HEAD", []string{head + "Content-Length: 5\r\n\r\n"}, []string{"HTTP/1.1 200 OK\r\n" + end + "Content-Length: 5\r\nX-Own: 1\r\n\r\n"}},
		"chunks, all there":    {"GET", []string{head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"}, []string{head[:17] + end + "X-Own: 1\r\n\r\nhello"}},
		"chunks, one by one":   {"GET", []string{head + "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n", "2\r\nyo\r\n", "0\r\n\r\n"}, []string{head[:17] + end + "X-Own: 1\r\n\r\n", "hello", "yo"}},
		"up to the end":        {"GET", []string{head + "\r\nhel", "lo"}, []string{head[:17] + end + "X-Own: 1\r\n\r\nhel", "lo"}},
		"the body comes later": {"GET", []string{head + "Content-Length: 5\r\n\r\n", "hel", "lo"}, []string{head[:17] + end + "Content-Length: 5\r\nX-Own: 1\r\n\r\n", "hel", "lo"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sent(t, x.method, x.text...)
			if err != nil || strings.Join(got, "|") != strings.Join(x.want, "|") {
				t.Errorf("%q, %v; want %q", got, err, x.want)
			}
		})
	}
}

func TestAnAnswerThatIsCutIsAFailure(t *testing.T) {
	for _, body := range []string{"Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"} {
		if got, err := sent(t, "GET", "HTTP/1.1 200 OK\r\n"+body); err == nil {
			t.Errorf("%q was taken for a whole answer: %q", body, got)
		}
	}
}
