package httpguard

import (
	"strconv"
	"strings"
)

// framing says where a request ends.
type framing struct {
	next   guardState
	length int64
}

// checkHead checks a request line and header fields, with the empty line at the end.
func checkHead(head []byte) (framing, *Refusal) {
	line, fields, _ := strings.Cut(string(head), "\r\n")
	method, version, err := checkRequestLine(line)
	if err != nil {
		return framing{}, err
	}
	var length, coding string
	seen := map[string]int{}
	err = eachField(fields, func(name, value string) *Refusal {
		switch seen[name]++; name {
		case "content-length":
			length = value
		case "transfer-encoding":
			coding = value
		case "host":
		default:
			return nil
		}
		if seen[name] > 1 {
			return refusef(400, "more than one %s", name)
		}
		return nil
	})
	if err != nil {
		return framing{}, err
	}
	return frame(method, version, seen, length, coding)
}

// frame decides how long the body is, by the strictest reading of RFC 9112 section 6.
func frame(method, version string, seen map[string]int, length, coding string) (framing, *Refusal) {
	hasLength, hasCoding := seen["content-length"] > 0, seen["transfer-encoding"] > 0
	switch {
	case hasLength && hasCoding:
		return framing{}, refusef(400, "both content-length and transfer-encoding")
	case method == "CONNECT" && (hasCoding || hasLength && length != "0"):
		return framing{}, refusef(400, "CONNECT with a body")
	case method == "CONNECT":
		return framing{next: unguarded}, nil
	case hasCoding && version == "HTTP/1.0":
		return framing{}, refusef(400, "transfer-encoding in HTTP/1.0")
	case hasCoding && !strings.EqualFold(coding, "chunked"):
		return framing{}, refusef(501, "transfer-encoding is not chunked")
	case hasCoding:
		return framing{next: atChunkSize}, nil
	case !hasLength:
		return framing{next: atHead}, nil
	}
	n, err := strconv.ParseInt(length, 10, 64)
	if err != nil || strings.Trim(length, "0123456789") != "" {
		return framing{}, refusef(400, "content-length is not a number")
	}
	if n == 0 {
		return framing{next: atHead}, nil
	}
	return framing{next: inBody, length: n}, nil
}

func checkRequestLine(line string) (method, version string, err *Refusal) {
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || !isToken(method) || target == "" {
		return "", "", refusef(400, "malformed request line")
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c == 0x7f {
			return "", "", refusef(400, "forbidden character in the request line")
		}
	}
	if version != "HTTP/1.1" && version != "HTTP/1.0" {
		return "", "", refusef(505, "want HTTP/1.1 or HTTP/1.0")
	}
	return method, version, nil
}

// eachField calls f for each header field, with its name in lower case.
func eachField(fields string, f func(name, value string) *Refusal) *Refusal {
	for n := 0; ; n++ {
		line, rest, ok := strings.Cut(fields, "\r\n")
		if !ok || line == "" {
			return nil
		}
		if fields = rest; n == maxFields {
			return refusef(431, "more than %d header fields", maxFields)
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) { // a folded line, or a space before the colon, among others
			return refusef(400, "malformed header field")
		}
		for _, c := range []byte(value) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return refusef(400, "forbidden character in a header field")
			}
		}
		if err := f(strings.ToLower(name), strings.Trim(value, " \t")); err != nil {
			return err
		}
	}
}

func checkTrailers(block []byte) *Refusal {
	return eachField(string(block), func(name, _ string) *Refusal {
		switch name {
		case "content-length", "transfer-encoding", "host", "trailer", "connection", "upgrade", "proxy-authorization":
			return refusef(400, "%s as a trailer", name)
		}
		return nil
	})
}

// chunkSize reads a size line without its CRLF: hexadecimal digits, and extensions, which are passed on.
func chunkSize(line []byte) (int64, *Refusal) {
	size, extensions, _ := strings.Cut(string(line), ";")
	for _, c := range []byte(extensions) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, refusef(400, "forbidden character in a chunk extension")
		}
	}
	if size == "" || len(size) > 15 || strings.Trim(size, "0123456789abcdefABCDEF") != "" {
		return 0, refusef(400, "malformed chunk size")
	}
	n, _ := strconv.ParseInt(size, 16, 64) // 15 digits fit
	return n, nil
}

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
