// Package datagram carries datagrams between two devices that have a sealed session already, on a UDP
// path of their own. It knows no mesh, and no flow but a number.
//
//	A                                                        B
//	Ask: probes to all places of B, every 100 ms             Answer: probes to all places of A
//	  an answer came: the place works                          answers what A has sealed, and nothing else
//	  a probe as long as a datagram may be, and its answer
//	  connects the socket, and says "use it"                   connects the socket, answers
//	Path.Send, Next: one packet for each datagram           <-> Path.Send, Next
//	Path.Run: a sign of life where one is due
//
// A packet that does not open is dropped without a word; so is one that comes again. An answer has the
// length of its question. The keys are of the session, see [Keys]: without it nobody makes a packet.
package datagram

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"ztm/tunnel/direct"
	"ztm/tunnel/pause"
)

// ownFlow is the number of what is said about the path itself: a type, and bytes that an answer
// repeats.
const ownFlow = 0

// The types.
const (
	probeType byte = 1 // does this come? It is answered
	useType   byte = 2 // A uses the path from now on. It is answered
	byeType   byte = 3 // the path is over
	answerBit byte = 0x80
)

func isQuestion(t byte) bool { return t == probeType || t == useType }

// The pace of a round.
const (
	RoundTime  = 4 * time.Second
	probeEvery = 100 * time.Millisecond // 40 packets for one place at the most
	refusal    = time.Millisecond       // how long a reader waits after an error: each place that refuses makes one
)

// Errors of a round.
var (
	ErrNone   = errors.New("no packet got through")
	ErrNarrow = errors.New("the way does not pass packets of 1,228 bytes")
)

// Places is where a peer is looked for.
type Places struct {
	Named []direct.Candidate // no two of them are the same place

	// Others is that the path may lead to another place, from which a packet of the peer comes: a NAT
	// may give it another address or port than the peer knows of.
	Others bool
}

// round is a socket that is not connected yet, between two devices that look for each other.
type round struct {
	socket direct.Socket
	places Places
	out    *sealer
	in     *opener
	end    time.Time
}

// newRound owns the socket from now on, also where it fails.
func newRound(socket direct.Socket, keys Keys, places Places) (*round, error) {
	out, err := newAEAD(keys.Send)
	in, err2 := newAEAD(keys.Receive)
	if err := errors.Join(err, err2); err != nil {
		socket.Close()
		return nil, err
	}
	return &round{socket, places, &sealer{aead: out}, &opener{aead: in}, time.Now().Add(RoundTime)}, nil
}

// send sends what is said about the path to a place. That it is lost is nothing new.
func (r *round) send(to netip.AddrPort, says []byte) {
	if packet, ok := r.out.append(make([]byte, 0, overhead+len(says)), ownFlow, says); ok {
		r.socket.WriteTo(packet, net.UDPAddrFromAddrPort(to))
	}
}

// listen hands to heard what the peer says within an interval, until heard reports that this is
// enough, and reports that too. However much comes, the interval ends.
func (r *round) listen(ctx context.Context, heard func(says []byte, from netip.AddrPort) (enough bool)) bool {
	until := time.Now().Add(probeEvery)
	r.socket.SetReadDeadline(until)
	b := make([]byte, maxPacket+1)
	for ctx.Err() == nil && time.Now().Before(until) {
		n, from, err := r.socket.ReadFrom(b)
		if err != nil {
			pause.For(ctx, refusal)
			continue
		}
		if says, at, ok := r.opens(b[:n], from); ok && heard(says, at) {
			return true
		}
	}
	return false
}

// opens returns what a packet says about the path, if it is one of the peer, from a place that counts.
func (r *round) opens(packet []byte, a net.Addr) (says []byte, from netip.AddrPort, ok bool) {
	flow, says, ok := r.in.open(packet)
	u, isUDP := a.(*net.UDPAddr)
	if !ok || !isUDP || flow != ownFlow || len(says) == 0 {
		return nil, from, false
	}
	from = netip.AddrPortFrom(u.AddrPort().Addr().Unmap(), u.AddrPort().Port())
	_, named := r.candidate(from)
	return says, from, named || r.places.Others
}

// lasts reports whether the round goes on.
func (r *round) lasts(ctx context.Context) bool { return ctx.Err() == nil && time.Now().Before(r.end) }

// candidate returns what a place is, and whether it was named.
func (r *round) candidate(place netip.AddrPort) (c direct.Candidate, named bool) {
	for _, c := range r.places.Named {
		if c.To == place {
			return c, true
		}
	}
	return direct.Candidate{Kind: direct.Punched, To: place}, false
}

// connect makes the path of a place. The socket is the path's from then on.
func (r *round) connect(to netip.AddrPort) (*Path, error) {
	at, _ := r.candidate(to)
	conn, err := r.socket.Connect(to)
	if err != nil {
		return nil, err
	}
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		at.From = a.AddrPort().Addr().Unmap()
	}
	return newPath(conn, at, r.out, r.in), nil
}

// Ask looks for a path to a peer that answers, from a socket that it owns. The caller runs the
// path.
func Ask(ctx context.Context, socket direct.Socket, keys Keys, places Places) (*Path, error) {
	r, err := newRound(socket, keys, places)
	if err != nil {
		return nil, err
	}
	to, err := r.find(ctx)
	if err != nil {
		socket.Close()
		return nil, err
	}
	p, err := r.connect(to)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, r.end); err != nil {
		p.end(Here)
		return nil, err
	}
	return p, nil
}

// find returns a place at which the peer answers, also to a packet that is as long as any.
func (r *round) find(ctx context.Context) (to netip.AddrPort, err error) {
	var narrow []netip.AddrPort // where only a short packet was answered so far
	for r.lasts(ctx) {
		r.probe(narrow)
		if r.listen(ctx, func(says []byte, from netip.AddrPort) (enough bool) {
			switch {
			case says[0] == probeType:
				r.learn(from)
			case says[0] != probeType|answerBit:
			case len(says) == len(longProbe):
				to = from
				return true
			case !slices.Contains(narrow, from) && len(narrow) < direct.MaxPlaces:
				narrow = append(narrow, from)
				r.send(from, longProbe)
			}
			return false
		}) {
			return to, nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return to, context.Cause(ctx)
	case len(narrow) > 0:
		return to, ErrNarrow
	}
	return to, ErrNone
}

// learn has a place probed from which the peer has asked.
func (r *round) learn(from netip.AddrPort) {
	if c, named := r.candidate(from); !named && len(r.places.Named) < 2*direct.MaxPlaces {
		r.places.Named = append(slices.Clip(r.places.Named), c)
		r.send(from, shortProbe)
	}
}

// The questions of a round.
var (
	shortProbe = []byte{probeType}
	longProbe  = append([]byte{probeType}, make([]byte, MaxPayload-1)...)
)

// probe asks at all places: where a short packet was answered, with one that is as long as any.
func (r *round) probe(narrow []netip.AddrPort) {
	for _, c := range r.places.Named {
		if !slices.Contains(narrow, c.To) {
			r.send(c.To, shortProbe)
		}
	}
	for _, to := range narrow {
		r.send(to, longProbe)
	}
}

// settle says that the path is used, until the peer answers. A datagram of a flow is an answer as well:
// the peer's flows use the path once it has heard so. It is lost, as no flow here does yet.
func (p *Path) settle(ctx context.Context, end time.Time) error {
	b := make([]byte, maxPacket+1)
	for ctx.Err() == nil && time.Now().Before(end) {
		p.send(ownFlow, []byte{useType})
		next := time.Now().Add(probeEvery)
		p.conn.SetReadDeadline(next)
		for ctx.Err() == nil && time.Now().Before(next) {
			n, err := p.conn.Read(b)
			if err != nil {
				pause.For(ctx, refusal)
				continue
			}
			if flow, says, ok := p.in.open(b[:n]); ok && (flow != ownFlow || bytes.Equal(says, []byte{useType | answerBit})) {
				return p.conn.SetReadDeadline(time.Time{})
			}
		}
	}
	return ErrNone
}

// Answer is the other side of [Ask]. It owns the socket, and returns the path once the peer uses it;
// up is called with it before the peer hears so. The caller runs the path.
func Answer(ctx context.Context, socket direct.Socket, keys Keys, places Places, up func(*Path)) (*Path, error) {
	r, err := newRound(socket, keys, places)
	if err != nil {
		return nil, err
	}
	r.end = r.end.Add(RoundTime / 2) // the peer began later
	to, says := r.untilUsed(ctx)
	if says == nil {
		socket.Close()
		return nil, ErrNone
	}
	p, err := r.connect(to)
	if err != nil {
		return nil, err
	}
	up(p)
	p.send(ownFlow, says)
	return p, nil
}

// untilUsed answers until the peer says that it uses a place, and returns what is to be answered to
// that; nil if it does not.
func (r *round) untilUsed(ctx context.Context) (to netip.AddrPort, answer []byte) {
	for met := false; r.lasts(ctx); {
		if !met {
			r.probe(nil)
		}
		if r.listen(ctx, func(says []byte, from netip.AddrPort) (used bool) {
			if !isQuestion(says[0]) {
				return false
			}
			met, used = true, says[0] == useType
			says[0] |= answerBit
			if used {
				to, answer = from, says
			} else {
				r.send(from, says)
			}
			return used
		}) {
			return to, answer
		}
	}
	return to, nil
}
