// Package cluster is the API server of a Kubernetes cluster as a client sees it: JSON over HTTPS,
// with what a client has to expect of it.
//
//	Client.do    one request: token, failure as *Failure            cluster.go
//	list         all objects of a kind, page by page, streamed      list.go
//	Follow       list, then watch, then watch again, into a Cache   follow.go
//	Service ...  the few fields of objects that we need             objects.go
//
// Objects are other people's words. One that is larger than [maxObject] is an error, a cache has at
// most [maxObjects], and of annotations and labels those of ours alone are kept.
package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	headerTimeout = 30 * time.Second // for an answer to begin
	tokenAge      = 30 * time.Second // a token is read from its file again after that, and after a 401
	maxFailure    = 64 << 10         // bytes of a failed answer that are read
	maxToken      = 64 << 10         // bytes
	maxRetryAfter = time.Minute
)

// PodToken is the token of a pod's account.
const PodToken = serviceAccount + "/token"

// Config says where an API server is. Server and Token are required.
type Config struct {
	Server string                 // https://host:port
	CA     []byte                 // certificates, PEM, of those who sign the server's; empty: those of the system
	Token  func() (string, error) // returns the present token; it is called now and then, from one goroutine at a time

	// Others says that requests of others are carried: many at once, whose answers may begin late.
	Others bool

	// Dial replaces how the server is connected to, if it is not nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// serviceAccount is where a pod finds its account.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// InPod returns where the API server is for a program in a pod. getenv is os.Getenv.
func InPod(getenv func(string) string) (Config, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return Config{}, errors.New("this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	ca, err := os.ReadFile(serviceAccount + "/ca.crt")
	if err != nil {
		return Config{}, fmt.Errorf("the pod's account: %w", err)
	}
	return Config{Server: "https://" + net.JoinHostPort(host, port), CA: ca, Token: TokenFile(PodToken)}, nil
}

// TokenFile returns the token in a file.
func TokenFile(path string) func() (string, error) {
	return func() (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxToken))
		return strings.TrimSpace(string(b)), err
	}
}

// Client asks one API server. Its methods may be called from any goroutine.
type Client struct {
	base *url.URL     // static
	http *http.Client // static
	read func() (string, error)

	mu    sync.Mutex
	token string    // guarded by mu
	at    time.Time // when token was read; zero: read it again; guarded by mu
}

// New makes a client. It connects when it is asked.
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.Server)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("API server %q: want https://HOST:PORT", c.Server)
	}
	t := &http.Transport{
		// The API server is near: proxies of the environment are for hubs.
		DialContext: (&net.Dialer{
			Timeout: 10 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: headerTimeout, IdleConnTimeout: time.Minute,
		MaxConnsPerHost: 64, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.Others {
		t.MaxConnsPerHost, t.ResponseHeaderTimeout = 0, 0
	}
	if c.Dial != nil {
		t.DialContext = c.Dial
	}
	if len(c.CA) > 0 {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("the CA of the API server is no certificate in PEM")
		}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the token is for this server alone
	return &Client{base: base, http: &http.Client{Transport: t, CheckRedirect: stay}, read: c.Token}, nil
}

// Close closes the connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Base returns where the server is.
func (c *Client) Base() *url.URL { return c.base }

// Transport returns what carries requests to the server. It adds no token.
func (c *Client) Transport() http.RoundTripper { return c.http.Transport }

// Token returns the present token.
func (c *Client) Token() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < tokenAge {
		return c.token, nil
	}
	token, err := c.read()
	if err != nil {
		return "", fmt.Errorf("token of the cluster: %w", err)
	}
	c.token, c.at = token, time.Now()
	return token, nil
}

func (c *Client) forgetToken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Time{}
}

// request is what a request has beside its path.
type request struct {
	method string
	query  url.Values
	kind   string // Content-Type of body
	body   []byte
}

// do sends a request. An answer that is no success is a [*Failure]. The caller closes the body.
func (c *Client) do(ctx context.Context, path string, r request) (*http.Response, error) {
	token, err := c.Token()
	if err != nil {
		return nil, err
	}
	u := *c.base
	u.Path, u.RawQuery = path, r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ztm")
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		c.forgetToken()
	}
	return nil, failureOf(resp)
}

// Do sends an object, if it is not nil, and reads the answer into out, if that is not nil. kind is
// the Content-Type: "application/json", or that of a patch.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, kind string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, headerTimeout)
	defer cancel()
	r := request{method: method, query: query}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r.kind, r.body = kind, b
	}
	resp, err := c.do(ctx, path, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxObject)) // so that the connection is used again
		return err
	}
	return json.NewDecoder(&capped{r: resp.Body, left: maxObject}).Decode(out)
}

// Failure is a failed answer of an API server.
type Failure struct {
	Code    int           `json:"code"` // as HTTP has it
	Reason  string        `json:"reason"`
	Message string        `json:"message"`
	After   time.Duration `json:"-"` // how long the server wants to be left alone
}

// Error returns the server's words.
func (f *Failure) Error() string { return fmt.Sprintf("API server: %d %s", f.Code, f.Message) }

// CodeOf returns the code of a [*Failure], and 0 for any other error.
func CodeOf(err error) int {
	var f *Failure
	if errors.As(err, &f) {
		return f.Code
	}
	return 0
}

// Denied reports whether an error means that the server refuses this account, or its token.
func Denied(err error) bool {
	code := CodeOf(err)
	return code == http.StatusUnauthorized || code == http.StatusForbidden
}

// failureOf reads a failed answer: a Status, or text of whoever is before the server.
func failureOf(resp *http.Response) *Failure {
	f := &Failure{}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxFailure)) // what there is of it
	if json.Unmarshal(b, f) != nil || f.Message == "" {
		f.Message, _, _ = strings.Cut(string(b), "\n")
	}
	f.Code, f.Message = resp.StatusCode, clean(f.Message)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		f.After = min(time.Duration(s)*time.Second, maxRetryAfter)
	}
	return f
}

// clean makes words of others fit for a log and a terminal.
func clean(s string) string {
	const most = 300 // bytes, a few sentences
	s = strings.ToValidUTF8(s[:min(len(s), most)], "?")
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
