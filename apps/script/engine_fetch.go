//go:build !ztm_router && !ztm_omit_js

package script

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"strings"

	"github.com/dop251/goja"
)

type fetchOptions struct {
	Method  string            `json:"method"`
	Headers map[string]string `json:"headers"`
	Body    goja.Value        `json:"body"`
}

// fetch makes a request and reads the whole answer.
func (a *api) fetch(url string, o fetchOptions) (*goja.Object, error) {
	body, err := bytesOf(o.Body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(a.ctx, strings.ToUpper(o.Method), url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range o.Headers {
		req.Header.Set(name, value)
	}
	resp, err := a.client.Do(req)
	if failed := (*neturl.Error)(nil); errors.As(err, &failed) {
		return nil, fmt.Errorf("fetch %s: %w", url, failed.Err) // without its own prefix, which repeats the method and the address
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxBody {
		a.mesh.spoil()
		return nil, fmt.Errorf("the answer of %s has more than %d bytes", url, maxBody)
	}
	return a.answer(resp, b), nil
}

func (a *api) answer(resp *http.Response, body []byte) *goja.Object {
	headers := map[string]string{}
	for name, values := range resp.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	r := a.vm.NewObject()
	for name, v := range map[string]any{
		"status":  resp.StatusCode,
		"ok":      resp.StatusCode/100 == 2,
		"headers": headers,
		"text":    func() string { return string(body) },
		"bytes":   func() goja.Value { return a.vm.ToValue(a.vm.NewArrayBuffer(bytes.Clone(body))) },
		"json": func() (v any, err error) {
			err = json.Unmarshal(body, &v)
			return v, err
		},
	} {
		r.Set(name, v)
	}
	return r
}

// meshWay sends requests to hosts of the mesh over the bridge, and others as usual. Programs have
// one thread: there is one request at a time.
type meshWay struct {
	conn  net.Conn // nil if there is no bridge
	alone string   // why there is none
	r     *bufio.Reader
}

func (m *meshWay) RoundTrip(req *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(req.URL.Hostname(), meshDomain) {
		return http.DefaultTransport.RoundTrip(req)
	}
	if req.URL.Scheme != "http" {
		return nil, errors.New("the mesh takes http alone; it seals what it carries")
	}
	if m.conn == nil {
		return nil, errors.New(m.alone)
	}
	if m.r == nil {
		m.r = bufio.NewReader(m.conn)
	}
	if err := req.Write(m.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(m.r, req)
	if err != nil {
		return nil, err
	}
	if text := resp.Header.Get(bridgeError); text != "" {
		resp.Body.Close()
		return nil, errors.New(text)
	}
	return resp, nil
}

// spoil ends the bridge, because the end of an answer was not read.
func (m *meshWay) spoil() {
	if m.conn != nil {
		m.conn.Close()
	}
}
