// Package etcd is a client of etcd's JSON gateway, of which 3.4 and later are spoken.
//
//	client.go   which endpoint is asked, for how long, and what its answer means
//	errors.go   what did not work, and whether it may have
//	config.go   endpoints, certificates and the user, from files
//	kv.go       keys: lists in pages, and transactions
//	lease.go    leases, which are the sign of life of an endpoint too
//	watch.go    the stream of changes, and the many ways in which it ends
//
// It knows nothing of what it keeps. gRPC is not used: it would double the size of a hub. All of a
// client goes to one endpoint, until an answer is missing. Then everything moves to the next, watches
// too: a watch at a member that is cut off from the others is deaf and does not say so.
package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel/pause"
)

// Times of a request. An answer of a healthy cluster takes milliseconds, an election 2 s.
const (
	attemptTime = time.Second     // for one endpoint, where Config says nothing else
	timeout     = 5 * time.Second // for all attempts, where the caller has no less
	firstPause  = 50 * time.Millisecond
	longPause   = time.Second
)

// maxAnswer is the most bytes of one answer, and of one message of a watch. A page of the largest
// values that etcd takes by default is larger; nobody here stores such.
const maxAnswer = 32 << 20

// Client asks an etcd cluster. It is safe for concurrent use. Make it with [New].
type Client struct {
	config Config
	http   *http.Client

	mu       sync.Mutex
	seat     *seat
	token    string // of the user; "" while there is none
	cluster  uint64 // ID of the cluster that answered last; 0 before
	revision int64  // the newest that is known
	restored time.Time
}

// seat is the stay of a client at one endpoint.
type seat struct {
	number int
	url    string
	left   context.Context // ends when the client leaves
	leave  context.CancelCauseFunc
}

func newSeat(number int, url string) *seat {
	left, leave := context.WithCancelCause(context.Background())
	return &seat{number, url, left, leave}
}

// New makes a client. It asks nobody yet.
func New(c Config) (*Client, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = attemptTime
	}
	t := &http.Transport{TLSClientConfig: c.TLS, TLSHandshakeTimeout: c.Timeout, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}
	return &Client{config: c, http: &http.Client{Transport: t}, seat: newSeat(0, c.Endpoints[0])}, nil
}

// Close ends all watches and connections that are idle.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seat.leave(ErrMoved)
	c.http.CloseIdleConnections()
}

// Endpoint returns the URL that is asked at present.
func (c *Client) Endpoint() string { return c.at().url }

func (c *Client) at() *seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seat
}

// move goes from an endpoint to the next, if that was not done yet.
func (c *Client) move(from *seat, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seat != from {
		return
	}
	n := (from.number + 1) % len(c.config.Endpoints)
	c.seat = newSeat(n, c.config.Endpoints[n])
	from.leave(why)
}

// header is what every answer begins with.
type header struct {
	Cluster  uint64 `json:"cluster_id,string"`
	Revision int64  `json:"revision,string"`
}

// known returns the newest revision that is known.
func (c *Client) known() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision
}

// observe compares the header of a linearizable answer with what was known when it was asked for. A
// cluster with another ID, or whose revision went back, was restored from a backup: all watches end.
func (c *Client) observe(before int64, h header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Revision < before || c.strangeLocked(h) {
		c.restoredLocked(h)
	}
	c.cluster, c.revision = h.Cluster, max(c.revision, h.Revision)
}

// recognize is observe for an answer whose revision may be an old one.
func (c *Client) recognize(h header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strangeLocked(h) {
		c.restoredLocked(h)
	}
	c.cluster = h.Cluster
}

func (c *Client) strangeLocked(h header) bool { return c.cluster != 0 && h.Cluster != c.cluster }

func (c *Client) restoredLocked(h header) {
	c.revision, c.restored = h.Revision, time.Now()
	old := c.seat
	c.seat = newSeat(old.number, old.url)
	old.leave(ErrRestored)
}

// Restored returns when an answer said last that etcd was restored from a backup; zero: none has. It is
// known as soon as the first linearizable answer of the restored one is here.
func (c *Client) Restored() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restored
}

// post asks until there is an answer that means something. again says that an attempt before the
// last one may have worked, so that the answer may be about a state that this request has made.
func (c *Client) post(ctx context.Context, path string, in, out any) (again bool, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return false, err
	}
	if len(body) > MaxRequest {
		return false, fmt.Errorf("etcd: a request of %d bytes is over the limit of %d", len(body), MaxRequest)
	}
	ctx, cancel := context.WithTimeout(ctx, max(timeout, c.config.Timeout))
	defer cancel()
	wait, loggedIn := firstPause, false
	for n := 1; ; n++ {
		at := c.at()
		var text json.RawMessage
		text, err = c.attempt(ctx, at, path, body)
		var answer *Error
		switch {
		case err == nil:
			return again, json.Unmarshal(text, out)
		case errors.As(err, &answer) && answer.final():
			return again, err
		case answer != nil && answer.Code == codeUnauthenticated:
			if loggedIn { // the user or the password is wrong
				return again, err
			}
			loggedIn = true
			c.forgetToken()
			continue
		}
		again = again || mayHaveWorked(err)
		if errors.Is(ctx.Err(), context.Canceled) { // by the caller, which says nothing of the endpoint
			return again, noAnswer(again, err)
		}
		c.move(at, ErrMoved)
		if n%len(c.config.Endpoints) == 0 {
			pause.For(ctx, rand.N(wait))
			wait = min(2*wait, longPause)
		}
		if ctx.Err() != nil {
			return again, noAnswer(again, err)
		}
	}
}

// attempt asks one endpoint once.
func (c *Client) attempt(ctx context.Context, at *seat, path string, body []byte) (text json.RawMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	if err := c.logIn(ctx, at); err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, at, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	err = decode(resp.Body, &text)
	return text, err
}

// decode reads one JSON value.
func decode(r io.Reader, out any) error {
	b := &bounded{r: r, left: maxAnswer}
	if err := json.NewDecoder(b).Decode(out); err != nil {
		return fmt.Errorf("etcd: its answer: %w", err)
	}
	return nil
}

// send sends a request and returns an answer with status 200, whose body the caller closes.
func (c *Client) send(ctx context.Context, at *seat, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// A member that knows no leader refuses at once, instead of after 7 s.
	req.Header.Set("Grpc-Metadata-Hasleader", "true")
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// logIn gets a token for the user, if there is a user and no token.
func (c *Client) logIn(ctx context.Context, at *seat) error {
	c.mu.Lock()
	have := c.token
	c.mu.Unlock()
	if c.config.User == "" || have != "" {
		return nil
	}
	body, err := json.Marshal(map[string]string{"name": c.config.User, "password": c.config.Password})
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, at, "/v3/auth/authenticate", body)
	if err != nil {
		return notSent(err)
	}
	defer resp.Body.Close()
	var got struct {
		Token string `json:"token"`
	}
	if err := decode(resp.Body, &got); err != nil {
		return notSent(err)
	}
	c.mu.Lock()
	c.token = got.Token
	c.mu.Unlock()
	return nil
}

func (c *Client) forgetToken() {
	c.mu.Lock()
	c.token = ""
	c.mu.Unlock()
}

// bounded is a reader with a limit, which is set anew for each message of a stream.
type bounded struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("etcd: a message is larger than %d bytes", maxAnswer)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// readError returns the error that an answer tells.
func readError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	e := parseError(text)
	e.Status = resp.StatusCode
	return e
}
