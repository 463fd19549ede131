package httpguard

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

// "A proxy MUST NOT modify the 'absolute-path' and 'query' parts of the received target URI when forwarding it to the
// next inbound server" (RFC 9110 section 7.7). net/http would: it refuses a lone % and escapes what needs no escape in
// its eyes. So path and query travel beside the request:
//
//	client -> guard:  GET http://host/repo%2Fname/a|b?q HTTP/1.1
//	       -> server: GET http://host/ HTTP/1.1, and the field Ztm-Target: /repo%2Fname/a|b?q
//	       -> origin: GET /repo%2Fname/a|b?q HTTP/1.1
//
// The first field of the name is the guard's; a client's own is dropped with it.

// targetField has path and query of a target in absolute form, as the client wrote them.
const targetField = "Ztm-Target"

// withTarget returns a head whose target is in absolute form with path and query in [targetField]; nil if the head can
// stay as it is. The head was checked.
func withTarget(head []byte) []byte {
	method, rest, _ := bytes.Cut(head, []byte(" "))
	target, rest, _ := bytes.Cut(rest, []byte(" "))
	scheme, after, ok := strings.Cut(string(target), "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "ws") {
		return nil
	}
	authority, raw := after, ""
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		authority, raw = after[:i], after[i:]
	}
	version, fields, _ := bytes.Cut(rest, []byte("\r\n"))
	var b bytes.Buffer
	b.Grow(len(head) + len(targetField) + 8)
	b.Write(method)
	b.WriteString(" " + scheme + "://" + authority + "/ ")
	b.Write(version)
	b.WriteString("\r\n" + targetField + ": " + raw + "\r\n")
	b.Write(fields)
	return b.Bytes()
}

// TakeTarget returns path and query of a request and removes the field that has them. ok is false for a request that is
// not to be forwarded.
func TakeTarget(r *http.Request) (raw string, ok bool) {
	values := r.Header[targetField]
	delete(r.Header, targetField)
	if len(values) == 0 || !r.URL.IsAbs() {
		return "", false
	}
	return values[0], true
}

// SetTarget makes the target of a request to an origin: raw as it is, in the form that the method asks for. ws is how
// clients of WebSocket call http (RFC 6455 section 3).
func SetTarget(u *url.URL, method, raw string) {
	u.Scheme = "http"
	u.Path, u.RawPath, u.RawQuery, u.ForceQuery = "", "", "", false
	switch {
	case raw == "" && method == http.MethodOptions:
		raw = "*" // RFC 9112 section 3.2.4
	case !strings.HasPrefix(raw, "/"):
		raw = "/" + raw // section 3.2.1: an empty path is sent as "/"
	case strings.HasPrefix(raw, "//"):
		// net/http takes two slashes for the beginning of a host. Most such targets pass as a path; the others in
		// absolute form, which every origin takes (section 3.2.2).
		if p, err := url.ParseRequestURI(raw); err == nil && p.Host == "" && p.RequestURI() == raw {
			u.Path, u.RawPath, u.RawQuery, u.ForceQuery = p.Path, p.RawPath, p.RawQuery, p.ForceQuery
			return
		}
		raw = "//" + u.Host + raw
	}
	u.Opaque = raw
}
