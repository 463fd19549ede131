package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/tuning"
)

// Session is the control session of an agent with a hub. It is safe for concurrent use.
type Session struct {
	conn    *tls.Conn
	watch   *watched // conn, as HTTP/2 has it
	h2      *h2.Conn
	address string
	at      string        // the machine that address led to; "" if a proxy knows it
	done    chan struct{} // closed when the connection is gone
	once    sync.Once
}

// ProbeTimeout bounds requests that the hub answers by itself; one that takes longer means a dead
// hub.
const ProbeTimeout = 10 * time.Second

// Open connects to a hub. config must offer [ControlProto] alone and verify the hub's certificate.
func Open(ctx context.Context, d *Dialer, address string, config *tls.Config) (*Session, error) {
	c, below, err := dialTLS(ctx, d, address, config)
	if err != nil {
		return nil, err
	}
	s := &Session{conn: c, address: address, done: make(chan struct{})}
	if d.Direct(address) {
		s.at = below.RemoteAddr().String()
	}
	s.watch = &watched{Conn: c, below: below.Gather(), closed: s.gone}
	s.h2 = h2.Client(s.watch, tuning.Control(below.Meter.RTT()))
	return s, nil
}

func (s *Session) gone() { s.once.Do(func() { close(s.done) }) }

// Done is closed when the session has ended, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.done }

// Address returns the hub's host:port.
func (s *Session) Address() string { return s.address }

// TLS returns the state of the connection, for judging the hub's certificate again.
func (s *Session) TLS() tls.ConnectionState { return s.conn.ConnectionState() }

// LocalAddr is this device's address towards the hub.
func (s *Session) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// Ping waits for a sign of life of the hub. It fails when ctx ends or the session is over.
func (s *Session) Ping(ctx context.Context) error {
	_, err := s.h2.Ping(ctx)
	return err
}

// Heard returns when something came from the hub last.
func (s *Session) Heard() time.Time { return s.h2.Heard() }

// RTT returns the least round trip that was measured; 0 if none was.
func (s *Session) RTT() time.Duration { return s.h2.RTT() }

// Lately returns the least round trip of the last minutes; 0 if none was measured. Unlike RTT it grows
// where the path becomes longer.
func (s *Session) Lately() time.Duration { return s.h2.Lately() }

// SetIdle sets after how much silence the hub is asked for a sign of life; without it after
// [LeadIdle].
func (s *Session) SetIdle(d time.Duration) { s.h2.SetIdle(d) }

// Close ends the session and every request on it.
func (s *Session) Close() error {
	s.conn.NetConn().Close() // first: a close_notify that nobody reads is not waited for
	s.gone()
	return s.h2.Close()
}

// Call sends a request and decodes the JSON answer into out; in and out may be nil. A hub's "no" is
// a *[answer.Error]. A request that the hub does not answer within ProbeTimeout, or ctx, ends the
// session: a hub that does not answer is no hub.
func (s *Session) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	limited, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	err := s.call(limited, method, path, query, in, out)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		s.Close()
		return fmt.Errorf("hub %s does not answer", s.address)
	}
	return err
}

func (s *Session) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(in)
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	u := url.URL{Scheme: "http", Host: s.address, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return err
	}
	resp, err := s.roundTrip(req)
	if err != nil {
		return fmt.Errorf("hub %s: %w", s.address, s.watch.reason(err))
	}
	defer resp.Body.Close()
	b, err := answer.Limited(resp.Body, MaxTrust)
	if err != nil {
		return fmt.Errorf("hub %s: %w", s.address, err)
	}
	if resp.StatusCode >= 300 {
		return answer.Parse(resp.StatusCode, b)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = b
		return nil
	default:
		if err := json.Unmarshal(b, out); err != nil {
			return fmt.Errorf("hub %s: answer to %s %s: %v", s.address, method, path, err)
		}
		return nil
	}
}

// busyPause is how long a request waits until it tries again for a place at a hub that has none.
const busyPause = 20 * time.Millisecond

// roundTrip sends a request, once the hub takes another one on this session: an answer to a hub that
// asked much at once must not be lost.
func (s *Session) roundTrip(req *http.Request) (*http.Response, error) {
	for {
		resp, err := s.h2.RoundTrip(req)
		if !h2.IsBusy(err) {
			return resp, err
		}
		timer := time.NewTimer(busyPause)
		select {
		case <-timer.C:
		case <-req.Context().Done():
			timer.Stop()
			return nil, err
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// Events opens the events stream and gives each event to handle, one after the other, until the
// stream or ctx ends. It never returns nil. fields are names and values that go along.
func (s *Session) Events(ctx context.Context, handle func(Event), fields ...string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+PathEvents, nil)
	if err != nil {
		return err
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	return follow(s, req, handle)
}

// follow sends a request and gives each event of the answer to handle. It never returns nil.
func follow[T any](s *Session, req *http.Request, handle func(T)) error {
	resp, err := s.h2.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("hub %s: %w", s.address, s.watch.reason(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := answer.Limited(resp.Body, MaxEvent)
		return answer.Parse(resp.StatusCode, b)
	}
	return scanEvents(resp.Body, handle)
}

// scanEvents reads JSON objects, each of at most MaxEvent bytes.
func scanEvents[T any](r io.Reader, handle func(T)) error {
	limited := &io.LimitedReader{R: r, N: MaxEvent}
	dec := json.NewDecoder(limited)
	for {
		var e T
		if err := dec.Decode(&e); err != nil {
			if limited.N <= 0 {
				return fmt.Errorf("events: more than %d bytes in one", MaxEvent)
			}
			return fmt.Errorf("events: %w", noEOF(err))
		}
		limited.N = MaxEvent
		handle(e)
	}
}

// Relay opens a relayed path as a stream of this session: the fallback where the agent cannot open
// a second connection to the hub. The arguments are those of [Relay.Connect].
func (s *Session) Relay(ctx context.Context, peer identity.ID, ticket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, RelayTimeout)
	defer cancel()
	req, err := http.NewRequest(http.MethodConnect, "http://"+string(peer), nil)
	if err != nil {
		return nil, err
	}
	if ticket != "" {
		req.Header.Set(FieldTicket, ticket)
	}
	stream, resp, err := h2.Open(ctx, s.h2, req)
	if err != nil {
		return nil, fmt.Errorf("relay stream: %w", err)
	}
	if stream == nil {
		defer resp.Body.Close()
		b, err := answer.Limited(resp.Body, MaxEvent)
		if err != nil {
			return nil, err
		}
		return nil, answer.Parse(resp.StatusCode, b)
	}
	return stream, nil
}
