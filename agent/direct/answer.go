package direct

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/datagram"
	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// waiting is a round between its two requests.
type waiting struct {
	session *Session
	round   []byte         // of one for connections, which begin with it
	seen    netip.AddrPort // where the hub sees the peer, as the peer says
	only    netip.Addr     // the one address that is dialled; the zero value: any
	expires time.Time      // monotonic

	// Of a round for datagrams.
	socket direct.Socket // nil: it is none
	keys   datagram.Keys
	over   func() // gives its place back
}

// Session is a session that a peer opened, as far as it matters here.
type Session struct {
	End
	Peer identity.Subject

	// At is where another session of the peer comes from that is a direct path; the zero value:
	// there is none.
	At netip.Addr

	// What a path for its datagrams needs: see [flow.Session], and Beside has its flows use one.
	Export func(context []byte, length int) ([]byte, error)
	Done   <-chan struct{}
	Beside func(Path)
}

// Serve answers a request of a round. It reports false where this device does not take part, and
// the request is to be answered like any that is not known.
func (d *Direct) Serve(w http.ResponseWriter, r *http.Request, s *Session) bool {
	if r.Method != http.MethodPost || d.Mode() == Off {
		return false
	}
	path := r.URL.Path
	datagrams := WithDatagrams && (path == seal.PathDatagrams || path == seal.PathDatagramsGo)
	switch {
	case path == seal.PathDirectEcho && s.direct():
		d.echo(w, r)
		return true
	case path != seal.PathDirect && path != seal.PathDirectGo && !datagrams:
		return false
	case s.Peer.User != d.User() && !d.Known(s.Peer.ID):
		return false
	}
	o, err := readOffer(w, r)
	switch {
	case err != nil:
	case path == seal.PathDirect:
		err = d.keep(w, o, s)
	case path == seal.PathDirectGo:
		err = d.begin(w, o, s.Peer.ID)
	case WithDatagrams && path == seal.PathDatagrams:
		err = d.keepDatagrams(w, o, s)
	case WithDatagrams:
		err = d.beginDatagrams(w, o, s.Peer.ID)
	}
	if err != nil {
		answer.Fail(w, d.Log, err)
	}
	return true
}

// bodyTime is how long a peer may take to send what it sends in one packet.
const bodyTime = 10 * time.Second

// readBody reads the body of a request, of at most max bytes.
func readBody(w http.ResponseWriter, r *http.Request, max int64) ([]byte, error) {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	return answer.Body(r, max)
}

func readOffer(w http.ResponseWriter, r *http.Request) (*offer, error) {
	b, err := readBody(w, r, direct.MaxBytes)
	if err != nil {
		return nil, err
	}
	o, err := parseOffer(b)
	if err != nil {
		err = answer.Errorf(answer.BadRequest, "%v", err)
	}
	return o, err
}

func parseOffer(b []byte) (*offer, error) {
	o := new(offer)
	if err := json.Unmarshal(b, o); err != nil {
		return nil, err
	}
	if len(o.Round) != roundLength {
		return nil, errors.New("a round has 16 bytes")
	}
	return o, o.Check()
}

// keep answers the first request of a round: it is kept until the second one comes.
func (d *Direct) keep(w http.ResponseWriter, o *offer, s *Session) error {
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
	waits := &waiting{session: s, round: o.Round, seen: o.Seen, only: only, expires: now.Add(roundLife)}
	if !bucket.Take(s.Peer.ID, now) || !d.note(waits) {
		return tooMany(s.Peer.ID)
	}
	addresses, err := d.Network.Addresses()
	if err != nil {
		return err
	}
	answer.JSON(w, d.own(addresses.Own, s.Leg, s.Peer.User))
	return nil
}

func tooMany(peer identity.ID) error {
	return answer.Errorf(answer.Limit, "endpoint %s begins too many rounds", peer)
}

// note keeps a round, unless there are as many as there may be.
func (d *Direct) note(w *waiting) bool {
	now, round, ofPeer := time.Now(), string(w.round), 0
	d.mu.Lock()
	for key, other := range d.waiting {
		switch {
		case now.After(other.expires) && other.socket == nil: // one with a socket goes with its timer
			delete(d.waiting, key)
		case other.session.Peer.ID == w.session.Peer.ID:
			ofPeer++
		}
	}
	fits := d.waiting[round] == nil && len(d.waiting) < waitingRounds && ofPeer < waitingOfPeer
	if fits {
		d.waiting[round] = w
	}
	d.mu.Unlock()
	return fits
}

// claim takes a round that waits for its second request; nil if a peer has none of that sort.
func (d *Direct) claim(round []byte, peer identity.ID, datagrams bool) *waiting {
	d.mu.Lock()
	w := d.waiting[string(round)]
	if w != nil && w.session.Peer.ID == peer && datagrams == (w.socket != nil) {
		delete(d.waiting, string(round))
	} else {
		w = nil
	}
	d.mu.Unlock()
	return w
}

// forget drops a round that still waits, and reports whether it did. Another of the same name stays: a
// peer may begin one again once the first is claimed.
func (d *Direct) forget(w *waiting) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	waits := d.waiting[string(w.round)] == w
	if waits {
		delete(d.waiting, string(w.round))
	}
	return waits
}

var errNoRound = answer.Errorf(answer.NotFound, "there is no such round")

// begin answers the second request of a round: it dials. The answer does not say what becomes of
// that, so that a peer does not learn which addresses answer here.
func (d *Direct) begin(w http.ResponseWriter, o *offer, peer identity.ID) error {
	waits := d.claim(o.Round, peer, false)
	if waits == nil || time.Now().After(waits.expires) {
		return errNoRound
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
	candidates := d.candidates(addresses, w.session.Leg.Near, theirs, w.only)
	direct.Answer(ctx, d.Network, w.session.Leg.Port(), candidates, func(ctx context.Context, at direct.Candidate, c net.Conn) bool {
		a, err := d.receive(ctx, w, c)
		if err != nil {
			peer := w.session.Peer.ID
			d.PeerLog.Info("direct "+string(peer), "a direct connection was refused", "asked by", peer, "from", at.To, "err", err)
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
func (d *Direct) receive(ctx context.Context, w *waiting, c net.Conn) (*seal.Accepted, error) {
	c.SetReadDeadline(time.Now().Add(direct.RoundTime))
	got := make([]byte, roundLength)
	if _, err := io.ReadFull(c, got); err != nil || subtle.ConstantTimeCompare(got, w.round) != 1 {
		c.Close()
		return nil, errGreeting
	}
	c.SetReadDeadline(time.Time{})
	a, err := seal.Server(ctx, c, d.Verifier, d.Certificate, nil)
	if err == nil && a.Peer.ID != w.session.Peer.ID {
		c.Close()
		err = errPeer
	}
	return &a, err
}

// echo answers with what it is sent.
func (d *Direct) echo(w http.ResponseWriter, r *http.Request) {
	b, err := readBody(w, r, echoBytes)
	if err != nil {
		answer.Fail(w, d.Log, err)
		return
	}
	answer.Document(w, b)
}
