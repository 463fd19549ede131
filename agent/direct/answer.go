package direct

import (
	"context"
	"crypto/subtle"
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
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// waiting is a round between its two requests.
type waiting struct {
	peer    identity.Subject
	round   []byte
	leg     *tunnel.Leg
	seen    netip.AddrPort // where the hub sees the peer, as the peer says
	only    netip.Addr     // the one address that is dialled; the zero value: any
	expires time.Time      // monotonic
}

// Session is a session that a peer opened, as far as it matters here.
type Session struct {
	Peer identity.Subject
	Leg  *tunnel.Leg // which carries it; nil: something else does
	Met  bool        // it is a direct path itself

	// At is where another session of the peer comes from that is a direct path; the zero value:
	// there is none.
	At netip.Addr
}

// Serve answers a request of a round. It reports false where this device does not take part, and
// the request is to be answered like any that is not known.
func (d *Direct) Serve(w http.ResponseWriter, r *http.Request, s Session) bool {
	if r.Method != http.MethodPost || d.Mode() == Off {
		return false
	}
	switch {
	case r.URL.Path == seal.PathDirectEcho && s.Met:
		d.echo(w, r)
		return true
	case r.URL.Path != seal.PathDirect && r.URL.Path != seal.PathDirectGo:
		return false
	case s.Peer.User != d.User() && !d.Known(s.Peer.ID):
		return false
	}
	o, err := readOffer(w, r)
	if err != nil {
		answer.Fail(w, d.Log, answer.Errorf(answer.BadRequest, "%v", err))
		return true
	}
	if r.URL.Path == seal.PathDirectGo {
		err = d.begin(w, o, s)
	} else {
		err = d.keep(w, o, s)
	}
	if err != nil {
		answer.Fail(w, d.Log, err)
	}
	return true
}

// bodyTime is how long a peer may take to send what it sends in one packet.
const bodyTime = 10 * time.Second

// readOffer reads the body of a request.
func readOffer(w http.ResponseWriter, r *http.Request) (offer, error) {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	b, err := answer.Body(r, direct.MaxBytes)
	if err != nil {
		return offer{}, err
	}
	return parseOffer(b)
}

func parseOffer(b []byte) (o offer, err error) {
	if err := json.Unmarshal(b, &o); err != nil {
		return o, err
	}
	if round, err := hex.DecodeString(o.Round); err != nil || len(round) != roundLength {
		return o, errors.New("a round has 16 bytes")
	}
	return o, o.Check()
}

// keep answers the first request of a round: it is kept until the second one comes.
func (d *Direct) keep(w http.ResponseWriter, o offer, s Session) error {
	if s.Leg == nil {
		return answer.Errorf(answer.Unavailable, "%s", NoLeg)
	}
	bucket, only := d.asked, netip.Addr{}
	if o.Offload {
		if bucket, only = d.offloads, s.At; !only.IsValid() {
			return answer.Errorf(answer.Conflict, "there is no direct path")
		}
	}
	now := time.Now()
	if !bucket.Take(s.Peer.ID, now) || !d.note(o, s, only, now) {
		return answer.Errorf(answer.Limit, "endpoint %s begins too many rounds", s.Peer.ID)
	}
	addresses, err := d.Network.Addresses()
	if err != nil {
		return err
	}
	answer.JSON(w, d.own(addresses.Own, s.Leg, s.Peer.User))
	return nil
}

// note keeps a round, unless there are as many as there may be.
func (d *Direct) note(o offer, s Session, only netip.Addr, now time.Time) bool {
	round, _ := hex.DecodeString(o.Round)
	d.mu.Lock()
	defer d.mu.Unlock()
	ofPeer := 0
	for key, w := range d.waiting {
		switch {
		case now.After(w.expires):
			delete(d.waiting, key)
		case w.peer.ID == s.Peer.ID:
			ofPeer++
		}
	}
	if d.waiting[o.Round] != nil || len(d.waiting) >= waitingRounds || ofPeer >= waitingOfPeer {
		return false
	}
	d.waiting[o.Round] = &waiting{peer: s.Peer, round: round, leg: s.Leg, seen: o.Seen, only: only, expires: now.Add(roundLife)}
	return true
}

// begin answers the second request of a round: it dials. The answer does not say what becomes of
// that, so that a peer does not learn which addresses answer here.
func (d *Direct) begin(w http.ResponseWriter, o offer, s Session) error {
	d.mu.Lock()
	waits := d.waiting[o.Round]
	if waits != nil && waits.peer.ID == s.Peer.ID {
		delete(d.waiting, o.Round)
	} else {
		waits = nil
	}
	d.mu.Unlock()
	if waits == nil || time.Now().After(waits.expires) {
		return answer.Errorf(answer.NotFound, "there is no such round")
	}
	o.Seen = waits.seen // it is said once
	running, most := &d.answers[0], answersAtOnce
	if waits.only.IsValid() {
		running, most = &d.answers[1], offloadsAtOnce
	}
	if !d.Work.GoUpTo(running, most, func() { d.answer(waits, o.Places) }) {
		return answer.Errorf(answer.Limit, "too many rounds are in progress")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answer is a round, as the one that was asked sees it.
func (d *Direct) answer(w *waiting, theirs direct.Places) {
	ctx, cancel := context.WithTimeout(d.Life, answerTimeout)
	defer cancel()
	addresses, err := d.Network.Addresses()
	if err != nil {
		return
	}
	candidates := d.candidates(addresses, w.leg, theirs, w.only)
	direct.Answer(ctx, d.Network, w.leg.Port(), candidates, func(ctx context.Context, at direct.Candidate, c net.Conn) bool {
		a, err := d.receive(ctx, w, c)
		if err != nil {
			d.PeerLog.Info("direct "+string(w.peer.ID), "a direct connection was refused", "asked by", w.peer.ID, "from", at.To, "err", err)
			return false
		}
		tune(c)
		d.Met(a, at)
		return true
	})
}

var (
	errGreeting = errors.New("it does not know the round")
	errPeer     = errors.New("it is another endpoint")
)

// receive seals a connection of a round, if it comes from the peer whose round it is. It says
// nothing before it has read the round.
func (d *Direct) receive(ctx context.Context, w *waiting, c net.Conn) (seal.Accepted, error) {
	c.SetReadDeadline(time.Now().Add(direct.RoundTime))
	got := make([]byte, roundLength)
	if _, err := io.ReadFull(c, got); err != nil || subtle.ConstantTimeCompare(got, w.round) != 1 {
		c.Close()
		return seal.Accepted{}, errGreeting
	}
	c.SetReadDeadline(time.Time{})
	a, err := seal.Server(ctx, c, d.Verifier, d.Certificate, nil)
	if err == nil && a.Peer.ID != w.peer.ID {
		c.Close()
		err = errPeer
	}
	return a, err
}

// echo answers with what it is sent.
func (d *Direct) echo(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	b, err := answer.Body(r, echoBytes)
	if err != nil {
		answer.Fail(w, d.Log, answer.Errorf(answer.BadRequest, "%v", err))
		return
	}
	answer.Document(w, b)
}
