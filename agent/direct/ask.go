package direct

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/direct"
	"ztm/tunnel/flow"
	"ztm/tunnel/pause"
	"ztm/tunnel/seal"
)

// offer is the body of both requests of a round.
type offer struct {
	Round   []byte `json:"round"`             // 16 random bytes, good once
	Offload bool   `json:"offload,omitempty"` // for one flow, on a direct path that there is
	direct.Places
}

// newOffer is that of a new round.
func newOffer() *offer {
	o := &offer{Round: make([]byte, roundLength)}
	rand.Read(o.Round)
	return o
}

// Session has this device and the peer of a relayed session meet, and seals what comes of it. leg
// is what carries that session here; nil: no connection of its own.
func (d *Direct) Session(ctx context.Context, relayed flow.Session, leg *tunnel.Leg) (*seal.Session, direct.Candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	met, at, err := d.meet(ctx, relayed, leg, netip.Addr{}, func(ctx context.Context, c net.Conn) (io.Closer, error) {
		return seal.Client(ctx, c, d.Verifier, d.Certificate(), relayed.Peer().ID)
	})
	if err != nil {
		return nil, at, err
	}
	s := met.(*seal.Session)
	if err := probation(ctx, s); err != nil {
		s.Close()
		return nil, at, Narrow.with(err)
	}
	return s, at, nil
}

// Dedicated does the same for one flow. The peer has a direct path with this device already, at the
// address only.
func (d *Direct) Dedicated(ctx context.Context, relayed flow.Session, leg *tunnel.Leg, only netip.Addr) (*seal.Dedicated, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	met, _, err := d.meet(ctx, relayed, leg, only, func(ctx context.Context, c net.Conn) (io.Closer, error) {
		return seal.ClientDedicated(ctx, c, d.Verifier, d.Certificate(), relayed.Peer().ID)
	})
	if err != nil {
		return nil, err
	}
	return met.(*seal.Dedicated), nil
}

// meet is a round, as the one that begins it sees it.
func (d *Direct) meet(
	ctx context.Context, relayed flow.Session, leg *tunnel.Leg, only netip.Addr, sealing func(context.Context, net.Conn) (io.Closer, error),
) (met io.Closer, at direct.Candidate, err error) {
	if leg == nil {
		return nil, at, NoLeg
	}
	addresses, err := d.Network.Addresses()
	if err != nil {
		return nil, at, NoPlace.with(err)
	}
	o := newOffer()
	o.Offload, o.Seen = only.IsValid(), d.seen(leg)
	theirs, err := propose(ctx, relayed, seal.PathDirect, o)
	if err != nil {
		return nil, at, err
	}
	o.Places = d.own(addresses.Own, leg, relayed.Peer().User)
	candidates := d.candidates(addresses, leg.Near, theirs, only)
	if len(candidates) == 0 {
		return nil, at, NoPlace
	}
	if err := d.start(ctx, relayed, seal.PathDirectGo, o, together); err != nil {
		return nil, at, err
	}
	met, at, err = direct.Dial(ctx, d.Network, leg.Port(), candidates, func(ctx context.Context, c net.Conn) (io.Closer, error) {
		if err := greet(c, o.Round); err != nil {
			c.Close()
			return nil, err
		}
		return sealing(ctx, c)
	})
	switch {
	case err == direct.ErrNone:
		err = NoWay
	case err != nil:
		err = NoPeer.with(err)
	}
	return met, at, err
}

// greet begins a connection with its round.
func greet(c net.Conn, round []byte) error {
	tune(c)
	c.SetWriteDeadline(time.Now().Add(direct.RoundTime))
	if _, err := c.Write(round); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}

// tune has a connection find out that its peer is dead. Data that waits for a reader that pauses is
// no sign of that, see [tunnel.Unhurried].
func tune(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetKeepAliveConfig(tunnel.KeepAlive())
	}
}

// propose sends the first request of a round, and returns where the peer is.
func propose(ctx context.Context, s flow.Session, path string, o *offer) (p direct.Places, err error) {
	b, err := o.post(ctx, s, path)
	if err == nil {
		p, err = direct.Parse(b)
	}
	if err != nil && !errors.As(err, new(Cause)) {
		err = Faulty.with(err)
	}
	return p, err
}

// lead says when this device begins, by the round trip to the peer.
type lead func(trip time.Duration) time.Duration

func together(trip time.Duration) time.Duration { return trip / 2 }

// start sends the second request of a round, and returns when it is time to begin.
func (d *Direct) start(ctx context.Context, s flow.Session, path string, o *offer, when lead) error {
	least := roundTimeout
	for range 3 {
		began := time.Now()
		if err := s.Ping(ctx); err != nil {
			return Faulty.with(err)
		}
		least = min(least, time.Since(began))
	}
	// The answer says nothing: whether the peer connects shows.
	if !d.Work.Go(func() { o.post(ctx, s, path) }) {
		return Faulty.with(context.Cause(d.Life))
	}
	if !pause.For(ctx, when(least)) {
		return Faulty.with(context.Cause(ctx))
	}
	return nil
}

// post sends a request of a round, and returns the answer.
func (o *offer) post(ctx context.Context, s flow.Session, path string) ([]byte, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return post(ctx, s, path, b, direct.MaxBytes)
}

// post sends a request on a session, and returns the answer, of at most max bytes. A refusal is the cause
// that it stands for.
func post(ctx context.Context, s flow.Session, path string, body []byte, max int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://peer"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if err := s.Reserve(); err != nil {
		return nil, err
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	got, err := answer.Limited(resp.Body, max)
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return got, err
	case http.StatusNotFound:
		return nil, Unsupported
	case http.StatusTooManyRequests:
		return nil, Busy
	case http.StatusServiceUnavailable:
		return nil, NoLeg
	}
	return nil, errors.New(resp.Status)
}

// probation finds out whether a new session passes what flows need: a way may pass small packets
// and drop large ones (RFC 2923 section 2.1).
func probation(ctx context.Context, s flow.Session) error {
	ctx, cancel := context.WithTimeout(ctx, probationTime)
	defer cancel()
	large := make([]byte, echoBytes)
	rand.Read(large)
	for _, n := range [...]int{1, 1, 1, echoBytes} {
		got, err := post(ctx, s, seal.PathDirectEcho, large[:n], echoBytes)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, large[:n]) {
			return errors.New("an echo came back changed")
		}
	}
	return nil
}
