package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rawOrigin makes a mesh in which http://svc.example.com answers each request with its head, as it came, and without a
// Date. It returns the address of the entrance.
func rawOrigin(t testing.TB) string {
	t.Helper()
	origin := serveTCP(t, func(c *net.TCPConn) {
		var head strings.Builder
		for lines := bufio.NewReader(c); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if head.WriteString(line); line == "\r\n" {
				break
			}
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+head.String())
	})
	address, _, _ := entranceTo(t, origin)
	return address
}

// askRaw sends a request and returns the fields of the response and the request line that the origin got.
func askRaw(t testing.TB, address, method, target string) (fields, line string) {
	t.Helper()
	response := exchange(t, address, method+" "+target+" HTTP/1.1\r\nHost: svc.example.com\r\nConnection: close\r\n\r\n")
	fields, body, _ := strings.Cut(response, "\r\n\r\n")
	_, body, _ = strings.Cut(body, "\r\n") // the size of a chunk, or nothing
	if i := strings.Index(response, method+" "); i >= 0 {
		body = response[i:]
	}
	line, _, _ = strings.Cut(body, "\r\n")
	return fields, line
}

func TestPathAndQueryReachTheOriginAsTheyAre(t *testing.T) {
	address := rawOrigin(t)
	for _, tt := range []struct{ method, target, want string }{
		{"GET", "http://svc.example.com/repo%2Fname/a|b", "/repo%2Fname/a|b"},
		{"GET", "http://svc.example.com/%7euser/%41?q=%2f&x=1;y=2&z=%zz", "/%7euser/%41?q=%2f&x=1;y=2&z=%zz"},
		{"GET", "http://svc.example.com/100%", "/100%"},
		{"GET", "http://svc.example.com/b\xc3\xbccher?\xff", "/b\xc3\xbccher?\xff"},
		{"GET", "http://svc.example.com/a/../b/./c//d", "/a/../b/./c//d"},
		{"GET", "http://svc.example.com//two/slashes?x", "//two/slashes?x"},
		{"GET", "http://svc.example.com//two|slashes", "http://svc.example.com//two|slashes"},
		{"GET", `http://svc.example.com/{"a":[1]}\^`, `/{"a":[1]}\^`},
		{"GET", "http://svc.example.com/?", "/?"},
		{"GET", "http://svc.example.com/a??b?#c", "/a??b?#c"},
		{"GET", "http://svc.example.com", "/"},
		{"GET", "http://svc.example.com?x=1", "/?x=1"},
		{"GET", "HTTP://SVC.example.com/x", "/x"},
		{"GET", "ws://svc.example.com/chat", "/chat"},
		{"OPTIONS", "http://svc.example.com", "*"},
		{"OPTIONS", "http://svc.example.com/", "/"},
		{"OPTIONS", "http://svc.example.com?x", "/?x"},
		{"PROPFIND", "http://svc.example.com/a|b", "/a|b"},
	} {
		if _, got := askRaw(t, address, tt.method, tt.target); got != tt.method+" "+tt.want+" HTTP/1.1" {
			t.Errorf("%s %q becomes %q, want %q", tt.method, tt.target, got, tt.want)
		}
	}
}

func TestAClientSaysNothingInTheNameOfTheGuard(t *testing.T) {
	address := rawOrigin(t)
	response := exchange(t, address, "GET http://svc.example.com/a HTTP/1.1\r\nHost: a\r\nZtm-Target: /b\r\nConnection: close\r\n\r\n")
	if !strings.Contains(response, "GET /a HTTP/1.1\r\n") || strings.Contains(response, "Ztm-Target") {
		t.Errorf("got %s", response)
	}
}

func TestAResponseGetsNoFieldsThatTheOriginDidNotGive(t *testing.T) {
	fields, _ := askRaw(t, rawOrigin(t), "GET", "http://svc.example.com/")
	var names []string
	for line := range strings.SplitSeq(fields, "\r\n") {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "Transfer-Encoding" {
			names = append(names, name)
		}
	}
	if diff := cmp.Diff([]string{"Via", "Connection"}, names); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestAClientThatHasEndedItsDirectionGetsItsAnswer(t *testing.T) {
	var gaveUp atomic.Bool
	address, in, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			gaveUp.Store(true)
		case <-time.After(100 * time.Millisecond):
		}
		io.WriteString(w, "the answer")
	})
	ask := func(request string) string {
		c := dialTCP(t, address)
		io.WriteString(c, request)
		c.CloseWrite()
		b, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	get := "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\n"
	if got := ask(get + "\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK") || !strings.Contains(got, "the answer") || gaveUp.Load() {
		t.Errorf("got %q", got)
	}
	if got := ask("GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
		t.Errorf("proxy.pac: got %q", got)
	}
	if err := in.call("PUT", "/credentials/a", map[string]string{"password": "b"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := ask(get + "Proxy-Authorization: Basic YTpi\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
		t.Errorf("with a password: got %q", got)
	}
}

func TestAnEmptyLineMayComeBeforeTheFirstRequest(t *testing.T) {
	address := rawOrigin(t)
	if got := exchange(t, address, "\r\nGET http://svc.example.com/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
		t.Errorf("got %q", got)
	}
}
