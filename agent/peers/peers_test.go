package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/agent/limits"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/seal"
	"ztm/tunnel/tuning"
)

// farPeer is a peer of a test: it answers requests with a handler, of so many at a time on a
// session.
type farPeer struct {
	t      *testing.T
	server *h2.Server
	v      *identity.Verifier
	cert   tls.Certificate // of both ends: who they are does not matter here
	id     identity.ID

	mu       sync.Mutex
	sessions int // that were opened
}

func newFarPeer(t *testing.T, streams int, handler http.HandlerFunc) *farPeer {
	t.Helper()
	a := newAuthority(t)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	der, err := a.ca.SignMember(public, "bob", a.now, a.now)
	if err != nil {
		t.Fatal(err)
	}
	p := &farPeer{t: t, v: identity.NewVerifier(a.trust, identity.NewClock()), cert: identity.TLSCertificate(der, key), id: identity.IDOf(public)}
	options := func(rtt time.Duration) h2.Options {
		o := tuning.Sealed(rtt)
		o.MaxStreams = streams
		return o
	}
	p.server = h2.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != seal.PathPing {
			handler(w, r)
		}
	}), options)
	t.Cleanup(p.server.Close)
	return p
}

// dial opens a sealed session, as mesh.dialPeer does. When it returns, the session knows how many
// streams it may have.
func (p *farPeer) dial(ctx context.Context, want, _ identity.ID) (*outSession, error) {
	near, far := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		a, err := seal.Server(ctx, far, p.v, func() tls.Certificate { return p.cert }, nil)
		if err == nil {
			p.server.Serve(&h2.Tagged{Conn: a.Session})
		}
	})
	defer serving.Wait()
	s, err := seal.Client(ctx, near, p.v, p.cert, want)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer"+seal.PathPing, nil)
	if err == nil {
		_, err = s.RoundTrip(req)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions++
	return &outSession{Session: s}, err
}

// trusting takes no session for doubtful.
func trusting(*outSession) bool { return false }

func (p *farPeer) opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions
}

// untilGone answers a flow and keeps it until the peer ends it.
func untilGone(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestFlowsBeyondTheStreamsOfASessionOpenAnother(t *testing.T) {
	const streams, flows = 40, 300
	peer := newFarPeer(t, streams, untilGone)
	p := newPool(peer.dial, trusting)
	defer p.close()
	ctx, cancel := context.WithTimeout(t.Context(), appstest.Timeout)
	defer cancel()
	errs := make(chan error, flows)
	for range flows { // all at once
		go func() { // awaited below
			o := opening{Opening: Opening{To: peer.id, Path: "x/y"}}
			s, err := p.get(ctx, o.To)
			if err == nil {
				err = o.send(ctx, s).err
			}
			errs <- err
		}()
	}
	for range flows {
		if err := <-errs; err != nil {
			t.Fatalf("a flow was lost: %v", err)
		}
	}
	if n := peer.opened(); n < flows/streams || n > limits.FullSessions {
		t.Errorf("%d flows, %d to a session, took %d sessions", flows, streams, n)
	}
}

func TestSessionsWithOnePeerAreBounded(t *testing.T) {
	const streams = 2
	peer := newFarPeer(t, streams, untilGone)
	p := newPool(peer.dial, trusting)
	defer p.close()
	var err error
	for range streams*limits.FullSessions + 1 {
		if _, err = p.get(t.Context(), peer.id); err != nil {
			break
		}
	}
	if answer.CodeOf(err) != answer.Limit || peer.opened() != limits.FullSessions {
		t.Errorf("with %d sessions, all full: %v", peer.opened(), err)
	}
}

func TestARefusalIsNotReadForever(t *testing.T) {
	begun := make(chan struct{})
	peer := newFarPeer(t, 10, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"error":"http_request_denied","message":"`)
		http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
	})
	p := newPool(peer.dial, trusting)
	defer p.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := p.get(ctx, peer.id)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-begun; cancel() }() // ends with the handler
	ended := make(chan error, 1)
	go func() { // awaited below
		o := opening{Opening: Opening{To: peer.id, Path: "x/y"}}
		ended <- o.send(ctx, s).err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a refusal is no error")
		}
	case <-time.After(appstest.Timeout):
		t.Error("the opening of a flow waits for a refusal that does not end")
		s.Close()
		<-ended
	}
}

func TestSessionsOfOneUserLeaveRoomForOthers(t *testing.T) {
	a := newAuthority(t)
	var work inflight.Tracker
	p := New(Config{Limits: limits.Table{Sessions: 8, SessionsPeer: 3}, Work: &work, PeerLog: limit.NewLog(slog.New(slog.DiscardHandler))})
	open := func(s identity.Subject) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		return far, p.addInbound(&inbound{conn: near, peer: s})
	}
	var eve []net.Conn
	for range 4 { // endpoints
		s := a.member(nil, "eve", a.now, a.now)
		for i := range 4 {
			c, err := open(s)
			if limited := answer.CodeOf(err) == answer.Limit; limited != (i == 3 || len(eve) == 8) {
				t.Fatalf("session %d of an endpoint, with %d in all: %v", i, len(eve), err)
			}
			if err == nil {
				eve = append(eve, c)
			}
		}
	}
	if _, err := open(a.member(nil, "ann", a.now, a.now)); err != nil {
		t.Fatalf("another user gets no session: %v", err)
	}
	if _, err := eve[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the session that made room is not closed: %v", err)
	}
	<-work.Close()
}

// Counted, not timed: all flows of one peer are answered while none of the others has an end.
func TestPeersThatDoNotAnswerHoldUpNobodyElse(t *testing.T) {
	const streams, flows = 10, 60
	silent := newFarPeer(t, streams, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	good := newFarPeer(t, streams, untilGone)
	unreachable := identity.IDOf([]byte("nowhere"))
	p := newPool(func(ctx context.Context, want, avoid identity.ID) (*outSession, error) {
		switch want {
		case good.id:
			return good.dial(ctx, want, avoid)
		case silent.id:
			return silent.dial(ctx, want, avoid)
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}, trusting)
	defer p.close()
	ctx, cancel := context.WithCancel(t.Context())
	open := func(to identity.ID) error {
		o := opening{Opening: Opening{To: to, Path: "x/y"}}
		s, err := p.get(ctx, o.To)
		if err == nil {
			err = o.send(ctx, s).err
		}
		return err
	}
	var waiting sync.WaitGroup
	var ended atomic.Int32
	for _, to := range []identity.ID{silent.id, unreachable} {
		for range flows {
			waiting.Go(func() { open(to); ended.Add(1) })
		}
	}
	appstest.Eventually(t, "the silent peer has what it does not answer", func() bool { return silent.opened() > 1 })
	answered := make(chan error, flows)
	for range flows {
		go func() { answered <- open(good.id) }() // awaited below
	}
	for range flows {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	if n := ended.Load(); n != 0 {
		t.Errorf("%d flows that have no answer ended", n)
	}
	cancel()
	waiting.Wait()
}
