package appstest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Ask sends a request on a connection of its own and returns the status and the body of the answer.
// The header is in pairs of name and value; a pair without a value is left out, and "Host" is the
// name that the server is asked by. Without an answer the test fails.
func Ask(t testing.TB, method, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	for i := 0; i < len(header); i += 2 {
		switch name, value := header[i], header[i+1]; {
		case name == "Host":
			r.Host = value // "" is that of the URL
		case value != "":
			r.Header.Add(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
