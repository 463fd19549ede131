package wire

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Requests and answers of net/http as field sections, and back. Bodies are left to the caller.

// OfRequest are the fields of a request.
func OfRequest(r *http.Request) Fields {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	f := Fields{{Name: ":method", Value: r.Method}}
	if r.Method == "" {
		f[0].Value = http.MethodGet
	}
	f.Add(":authority", host)
	if r.Method != http.MethodConnect {
		f.Add(":scheme", "https")
		f.Add(":path", r.URL.RequestURI())
	}
	for name, values := range r.Header {
		for _, v := range values {
			f.Add(strings.ToLower(name), v)
		}
	}
	if r.ContentLength > 0 {
		f.Add("content-length", strconv.FormatInt(r.ContentLength, 10))
	}
	return f
}

// Request is the request of a section that was checked. It has no length and no body.
func (f Fields) Request() (*http.Request, error) {
	r := &http.Request{Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, Body: http.NoBody}
	for _, field := range f {
		switch field.Name {
		case ":method":
			r.Method = field.Value
		case ":authority":
			r.Host = field.Value
		case ":path":
			r.RequestURI = field.Value
		case ":scheme":
		default:
			r.Header.Add(field.Name, field.Value)
		}
	}
	var err error
	if r.Method == http.MethodConnect {
		r.URL, r.RequestURI = &url.URL{Host: r.Host}, r.Host
	} else {
		r.URL, err = url.ParseRequestURI(r.RequestURI)
	}
	return r, err
}

// OfAnswer are the fields of an answer. What cannot be one is left out.
func OfAnswer(status int, h http.Header) Fields {
	f := Fields{{Name: ":status", Value: strconv.Itoa(status)}}
	for name, values := range h {
		name = strings.ToLower(name)
		for _, v := range values {
			if v = strings.Trim(v, " \t"); CheckField(name, v) == nil && name[0] != ':' {
				f.Add(name, v)
			}
		}
	}
	return f
}

// Answer is the answer of a section that was checked. It has no body.
func (f Fields) Answer() *http.Response {
	a := &http.Response{Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, ContentLength: -1}
	for _, field := range f {
		if field.Name != ":status" {
			a.Header.Add(field.Name, field.Value)
		}
	}
	a.StatusCode, _ = strconv.Atoi(f.Get(":status"))
	a.Status = f.Get(":status") + " " + http.StatusText(a.StatusCode)
	if n, err := strconv.ParseInt(f.Get("content-length"), 10, 64); err == nil {
		a.ContentLength = n
	}
	return a
}
