package direct

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"

	"ztm/agent/feature"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/datagram"
	"ztm/tunnel/direct"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// How the datagrams of a session come to go by UDP, whether the session is direct or relayed:
//
//	A, which opened the session                              B
//	POST /v1/direct/datagrams     round                  ->  opens a socket, and keeps the round
//	                                                     <-  port, own addresses, a guess of what a NAT makes of them
//	opens a socket; three PINGs
//	POST /v1/direct/datagrams/go  round, port, addresses ->  probes                      (package datagram)
//	probes, when that is there: the keys are the session's, for this round
//	the flows of both ends use the path until it ends; then, and before, they are in the session

// WithDatagrams is that this binary has all that.
const WithDatagrams = feature.Datagrams

// Path is a [datagram.Path]. It does not name the type, so that a binary that makes none has none of
// the code.
type Path interface {
	flow.Beside
	Place() direct.Candidate // of the peer, and the own address
	Run(ctx context.Context, session <-chan struct{}) datagram.Ending
	Done() <-chan struct{}
	Leave()
}

// End is one end of a session: where it is, as far as that is known.
type End struct {
	Leg  *tunnel.Leg      // which carries it through a hub; nil: something else does
	Path direct.Candidate // that it has without a hub; the zero value: none
}

// socket opens a socket.
func (d *Direct) socket() (direct.Socket, error) {
	if open := d.Network.Socket; open != nil {
		return open()
	}
	return direct.OpenSocket()
}

func (e End) direct() bool { return e.Path.Kind != "" }

// places are where the peer is told that a socket of this end is. That a NAT gives UDP the port of the
// socket is a guess, made where it gave the leg its own.
func (d *Direct) places(e End, here direct.Interfaces, socket direct.Socket, user string) direct.Places {
	port := uint16(socket.LocalAddr().(*net.UDPAddr).Port)
	if e.direct() {
		return direct.Places{Port: port} // the address is known
	}
	p := d.own(here.Own, e.Leg, user)
	p.Port = port
	if p.Seen.IsValid() && p.Seen.Port() == e.Leg.Port() {
		p.Seen = netip.AddrPortFrom(p.Seen.Addr(), port)
	} else {
		p.Seen = netip.AddrPort{}
	}
	return p
}

// probed are the places of a peer that are tried: of a session that is direct, its address.
func (d *Direct) probed(e End, here direct.Interfaces, theirs direct.Places) []direct.Candidate {
	if !e.direct() {
		return d.candidates(here, e.Leg.Near, theirs, netip.Addr{})
	}
	to := e.Path.To.Addr()
	theirs = direct.Places{Port: theirs.Port, Local: []netip.Addr{to}}
	return d.candidates(here, e.Path.Kind == direct.LAN, theirs, to)
}

// keys derives those of a round from its session.
func keys(export func([]byte, int) ([]byte, error), round []byte, asks bool) (k datagram.Keys, err error) {
	b, err := export(round, 2*datagram.KeySize)
	if err != nil {
		return k, err
	}
	k = datagram.Keys{Send: b[:datagram.KeySize], Receive: b[datagram.KeySize:]}
	if !asks {
		k.Send, k.Receive = k.Receive, k.Send
	}
	return k, nil
}

// leads are those of the rounds in a row: a NAT that lets a packet in before its own device has sent one
// gives that device another port, so that the device has to be first. Which of the two that is, nobody
// knows.
var leads = []lead{
	together,
	func(time.Duration) time.Duration { return 0 },
	func(trip time.Duration) time.Duration { return trip/2 + 50*time.Millisecond },
}

// Beside has this device and the peer of a session find a path for its datagrams, in as many rounds as
// it may take, each with fresh ports. The caller has it kept, see [Direct.Keep].
func (d *Direct) Beside(ctx context.Context, s flow.Session, e End) (p Path, err error) {
	if !WithDatagrams { // the linker keeps exported methods, and so all that they need
		return p, Unsupported
	}
	for _, when := range leads {
		if p, err = d.round(ctx, s, e, when); CauseOf(err) != NoWay {
			break
		}
	}
	return p, err
}

func (d *Direct) round(ctx context.Context, s flow.Session, e End, when lead) (Path, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	if e.Leg == nil && !e.direct() {
		return nil, NoLeg
	}
	here, err := d.Network.Addresses()
	if err != nil {
		return nil, NoPlace.with(err)
	}
	socket, err := d.socket()
	if err != nil {
		return nil, NoPlace.with(err)
	}
	p, err := d.ask(ctx, s, e, here, socket, when)
	if err != nil {
		socket.Close()
		return nil, err
	}
	return p, nil
}

func (d *Direct) ask(ctx context.Context, s flow.Session, e End, here direct.Interfaces, socket direct.Socket, when lead) (Path, error) {
	o := newOffer()
	k, err := keys(s.Export, o.Round, true)
	if err != nil {
		return nil, err
	}
	theirs, err := propose(ctx, s, seal.PathDatagrams, o)
	if err != nil {
		return nil, err
	}
	o.Places = d.places(e, here, socket, s.Peer().User)
	candidates := d.probed(e, here, theirs)
	if len(candidates) == 0 && d.Mode() != Auto { // else the peer may find this one
		return nil, NoPlace
	}
	if err := d.start(ctx, s, seal.PathDatagramsGo, o, when); err != nil {
		return nil, err
	}
	p, err := datagram.Ask(ctx, socket, k, datagram.Places{Named: candidates, Others: d.Mode() == Auto})
	switch {
	case errors.Is(err, datagram.ErrNone):
		return nil, NoWay
	case errors.Is(err, datagram.ErrNarrow):
		return nil, Narrow
	case err != nil:
		return nil, err
	}
	return p, nil
}

// Keep keeps a path until it ends, at the latest with its session or when this device leaves the
// network where it began, and returns why.
func (d *Direct) Keep(p Path, session <-chan struct{}) datagram.Ending {
	if !WithDatagrams {
		return ""
	}
	d.Work.Go(func() { d.Watch(p.Place().From, p.Done(), p.Leave) })
	return p.Run(d.Life, session)
}

// keepDatagrams answers the first request of a round for datagrams.
func (d *Direct) keepDatagrams(w http.ResponseWriter, o *offer, s *Session) error {
	if s.Leg == nil && !s.direct() {
		return answer.Errorf(answer.Unavailable, "%s", NoLeg)
	}
	now, peer := time.Now(), s.Peer.ID
	if !d.besides.Take(peer, now) || !d.paths.Acquire(peer, pathsPeer) {
		return tooMany(peer)
	}
	if !d.allPaths.Acquire(struct{}{}, pathsAtOnce) {
		d.paths.Release(peer)
		return answer.Errorf(answer.Limit, "there are too many paths for datagrams")
	}
	waits := &waiting{session: s, round: o.Round, expires: now.Add(roundLife), over: func() {
		d.allPaths.Release(struct{}{})
		d.paths.Release(peer)
	}}
	places, err := d.opens(waits)
	if err != nil {
		waits.over()
		return err
	}
	answer.JSON(w, places)
	return nil
}

// opens opens the socket of a round and keeps the round, for as long as it may last.
func (d *Direct) opens(waits *waiting) (places direct.Places, err error) {
	here, err := d.Network.Addresses()
	if err != nil {
		return places, err
	}
	if waits.keys, err = keys(waits.session.Export, waits.round, false); err != nil {
		return places, err
	}
	if waits.socket, err = d.socket(); err != nil {
		return places, answer.Errorf(answer.Unavailable, "%s", NoPlace)
	}
	if !d.note(waits) {
		waits.socket.Close()
		return places, tooMany(waits.session.Peer.ID)
	}
	time.AfterFunc(roundLife, func() {
		if d.forget(waits) {
			waits.socket.Close()
			waits.over()
		}
	})
	return d.places(waits.session.End, here, waits.socket, waits.session.Peer.User), nil
}

// beginDatagrams answers the second request of a round for datagrams: the peer is looked for.
func (d *Direct) beginDatagrams(w http.ResponseWriter, o *offer, peer identity.ID) error {
	waits := d.claim(o.Round, peer, true)
	if waits == nil {
		return errNoRound
	}
	if !d.Work.Go(func() {
		defer waits.over()
		d.answerDatagrams(waits, o.Places)
	}) {
		waits.socket.Close()
		waits.over()
		return context.Cause(d.Life)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answerDatagrams is a round for datagrams and what comes of it, as the one that was asked sees it.
func (d *Direct) answerDatagrams(w *waiting, theirs direct.Places) {
	ctx, cancel := context.WithTimeout(d.Life, answerTimeout)
	defer cancel()
	here, err := d.Network.Addresses()
	if err != nil {
		w.socket.Close()
		return
	}
	places := datagram.Places{Named: d.probed(w.session.End, here, theirs), Others: d.Mode() == Auto}
	p, err := datagram.Answer(ctx, w.socket, w.keys, places, func(p *datagram.Path) { w.session.Beside(p) })
	if err != nil {
		return
	}
	if !d.Mode().Allows(p.Place().Kind) { // meanwhile
		p.Leave()
	}
	d.Keep(p, w.session.Done)
}
