package direct

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
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
	"ztm/tunnel/seal"
)

// offer is the body of both requests of a round.
type offer struct {
	Round   string `json:"round"`             // 16 random bytes in hexadecimal, good once
	Offload bool   `json:"offload,omitempty"` // for one flow, on a direct path that there is
	direct.Places
}

// Session has this device and the peer of a relayed session meet, and seals what comes of it. leg
// is what carries that session here; nil: no connection of its own.
func (d *Direct) Session(ctx context.Context, relayed flow.Session, leg *tunnel.Leg) (*seal.Session, direct.Candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	s, at, err := meet(ctx, d, relayed, leg, netip.Addr{}, func(ctx context.Context, c net.Conn) (*seal.Session, error) {
		return seal.Client(ctx, c, d.Verifier, d.Certificate(), relayed.Peer().ID)
	})
	if err != nil {
		return nil, at, err
	}
	if err := probation(ctx, s); err != nil {
		s.Close()
		return nil, at, &failure{Narrow, err}
	}
	return s, at, nil
}

// Dedicated does the same for one flow. The peer has a direct path with this device already, at the
// address only.
func (d *Direct) Dedicated(ctx context.Context, relayed flow.Session, leg *tunnel.Leg, only netip.Addr) (*seal.Dedicated, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	c, _, err := meet(ctx, d, relayed, leg, only, func(ctx context.Context, c net.Conn) (*seal.Dedicated, error) {
		return seal.ClientDedicated(ctx, c, d.Verifier, d.Certificate(), relayed.Peer().ID)
	})
	return c, err
}

// meet is a round, as the one that begins it sees it.
func meet[T io.Closer](
	ctx context.Context, d *Direct, relayed flow.Session, leg *tunnel.Leg, only netip.Addr, sealing func(context.Context, net.Conn) (T, error),
) (met T, at direct.Candidate, err error) {
	if leg == nil {
		return met, at, &failure{cause: NoLeg}
	}
	addresses, err := d.Network.Addresses()
	if err != nil {
		return met, at, &failure{NoPlace, err}
	}
	round := make([]byte, roundLength)
	rand.Read(round)
	o := offer{Round: hex.EncodeToString(round), Offload: only.IsValid(), Places: direct.Places{Seen: d.seen(leg)}}
	theirs, err := propose(ctx, relayed, seal.PathDirect, o)
	if err != nil {
		return met, at, err
	}
	o.Places = d.own(addresses.Own, leg, relayed.Peer().User)
	candidates := d.candidates(addresses, leg.Near, theirs, only)
	if len(candidates) == 0 {
		return met, at, &failure{cause: NoPlace}
	}
	if err := d.start(ctx, relayed, seal.PathDirectGo, o, together); err != nil {
		return met, at, &failure{Faulty, err}
	}
	met, at, err = direct.Dial(ctx, d.Network, leg.Port(), candidates, func(ctx context.Context, c net.Conn) (T, error) {
		tune(c)
		c.SetWriteDeadline(time.Now().Add(direct.RoundTime))
		if _, err := c.Write(round); err != nil {
			c.Close()
			return met, err
		}
		c.SetWriteDeadline(time.Time{})
		return sealing(ctx, c)
	})
	switch {
	case err == nil:
		return met, at, nil
	case err == direct.ErrNone:
		return met, at, &failure{cause: NoWay}
	default:
		return met, at, &failure{NoPeer, err}
	}
}

// tune has a connection find out that its peer is dead. Data that waits for a reader that pauses is
// no sign of that, see [tunnel.Unhurried].
func tune(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetKeepAliveConfig(tunnel.KeepAlive())
	}
}

// propose sends the first request of a round, and returns where the peer is.
func propose(ctx context.Context, s flow.Session, path string, o offer) (direct.Places, error) {
	resp, err := post(ctx, s, path, o)
	if err != nil {
		return direct.Places{}, &failure{Faulty, err}
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return direct.Places{}, &failure{cause: Unsupported}
	case http.StatusTooManyRequests:
		return direct.Places{}, &failure{cause: Busy}
	case http.StatusServiceUnavailable:
		return direct.Places{}, &failure{cause: NoLeg}
	default:
		return direct.Places{}, &failure{Faulty, errors.New(resp.Status)}
	}
	b, err := answer.Limited(resp.Body, direct.MaxBytes)
	if err != nil {
		return direct.Places{}, &failure{Faulty, err}
	}
	p, err := direct.Parse(b)
	if err != nil {
		return p, &failure{Faulty, err}
	}
	return p, nil
}

// lead says when this device begins, by the round trip to the peer.
type lead func(trip time.Duration) time.Duration

func together(trip time.Duration) time.Duration { return trip / 2 }

// start sends the second request of a round, and returns when it is time to begin.
func (d *Direct) start(ctx context.Context, s flow.Session, path string, o offer, when lead) error {
	least := time.Duration(0)
	for range 3 {
		began := time.Now()
		if err := s.Ping(ctx); err != nil {
			return err
		}
		if took := time.Since(began); least == 0 || took < least {
			least = took
		}
	}
	// The answer says nothing: whether the peer connects shows.
	if !d.Work.Go(func() {
		if resp, err := post(ctx, s, path, o); err == nil {
			resp.Body.Close()
		}
	}) {
		return context.Cause(d.Life)
	}
	timer := time.NewTimer(when(least))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// post sends a request on a session.
func post(ctx context.Context, s flow.Session, path string, v any) (*http.Response, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return send(ctx, s, path, b)
}

func send(ctx context.Context, s flow.Session, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://peer"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if err := s.Reserve(); err != nil {
		return nil, err
	}
	return s.RoundTrip(req)
}

// probation finds out whether a new session passes what flows need: a way may pass small packets
// and drop large ones (RFC 2923 section 2.1).
func probation(ctx context.Context, s flow.Session) error {
	ctx, cancel := context.WithTimeout(ctx, probationTime)
	defer cancel()
	large := make([]byte, echoBytes)
	rand.Read(large)
	for _, body := range [][]byte{large[:1], large[:1], large[:1], large} {
		resp, err := send(ctx, s, seal.PathDirectEcho, body)
		if err != nil {
			return err
		}
		got, err := answer.Limited(resp.Body, echoBytes)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !bytes.Equal(got, body) {
			return errors.New("an echo came back changed")
		}
	}
	return nil
}
