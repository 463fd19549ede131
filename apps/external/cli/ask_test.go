package cli

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// echoing is an app that answers with the request that it got.
func echoing(context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		r, err := http.ReadRequest(bufio.NewReader(there))
		if err != nil {
			return
		}
		var text strings.Builder
		r.Write(&text)
		resp := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Set-Cookie": {"console=stolen"}},
			Body: io.NopCloser(strings.NewReader(text.String())), ContentLength: int64(text.Len()), Close: true}
		resp.Write(there)
	}()
	return here, nil
}

func TestOnlyTheBrowserWithTheCodeSeesThePagesOfAnApp(t *testing.T) {
	p := &pages{open: echoing, code: "the-code", cookie: "the-cookie"}
	get := func(target, cookie string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w.Result()
	}
	for target, cookie := range map[string]string{"/": "", "/page": cookieName + "=other", "/?" + codeField + "=wrong": ""} {
		if resp := get(target, cookie); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s with cookie %q: %s", target, cookie, resp.Status)
		}
	}
	resp := get("/?"+codeField+"=the-code", "")
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" || len(resp.Cookies()) != 1 || !resp.Cookies()[0].HttpOnly {
		t.Fatalf("the code: %s, %v", resp.Status, resp.Header)
	}
	if again := get("/?"+codeField+"=the-code", ""); again.StatusCode != http.StatusForbidden {
		t.Errorf("the code once more: %s", again.Status)
	}
	resp = get("/page?x=1", cookieName+"="+resp.Cookies()[0].Value+"; console=secret")
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "GET /page?x=1 ") {
		t.Fatalf("with the cookie: %s, %q, %v", resp.Status, body, err)
	}
	if strings.Contains(string(body), "secret") || strings.Contains(string(body), "the-cookie") || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("a cookie passed: %q, %v", body, resp.Header)
	}
}
