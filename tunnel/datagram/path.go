package datagram

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"ztm/tunnel/buffer"
	"ztm/tunnel/direct"
)

// How long a path waits.
const (
	answerTimeout = time.Second       // for a sign of life, until datagrams take the other way
	maxSilent     = 3 * answerTimeout // until the path is given up
	keepAlive     = 15 * time.Second  // NATs forget a mapping of UDP after 30 s
	maxIdle       = time.Minute       // without a datagram, until the path ends
	lookEvery     = answerTimeout / 2
)

// maxErrs is how many errors of the socket in a row end a path: a refusal may be one of the moment in
// which the peer connects.
const maxErrs = 16

// Limits of what the peer may have kept here that nobody reads.
const (
	maxQueued = 64        // datagrams of a flow
	maxHeld   = 256 << 10 // bytes of all flows of a path
)

// Ending is why a path is over.
type Ending string

// The endings.
const (
	AtRest Ending = "rest"   // no datagram went for a minute
	ByPeer Ending = "peer"   // the peer has ended it
	Here   Ending = "closed" // it was closed here
	Silent Ending = "silent" // nothing comes any more
	UsedUp Ending = "used"   // its keys have sealed as much as they may
	noEnd  Ending = ""
)

// Path is a way for the datagrams of many flows to one peer: a UDP socket that is connected to it.
// What is lost on the way is lost. Its methods may be called from any goroutine.
type Path struct {
	at   direct.Candidate
	conn net.Conn
	out  *sealer
	in   *opener // owned by the reader
	done chan struct{}

	mu      sync.Mutex
	flows   map[uint32]*queue // guarded by mu
	held    int               // bytes in queues; guarded by mu
	heard   time.Time         // when a packet of the peer came; guarded by mu
	asked   time.Time         // when the first packet after that was sent; zero: none was; guarded by mu
	pinged  time.Time         // when the peer was asked for a sign of life; guarded by mu
	used    time.Time         // when a datagram went or came; guarded by mu
	ending  Ending            // guarded by mu
	carried [2]int64          // datagrams sent and received; guarded by mu
}

// queue is what has come for one flow.
type queue struct {
	wake func()
	all  [][]byte
}

func newPath(conn net.Conn, at direct.Candidate, out *sealer, in *opener) *Path {
	now := time.Now()
	return &Path{at: at, conn: conn, out: out, in: in, done: make(chan struct{}), flows: map[uint32]*queue{}, heard: now, used: now}
}

// Enlist has datagrams of a flow taken here from now on: wake is called when there is one, and must
// not call the path. Flow 0 is the path's own.
func (p *Path) Enlist(flow uint32, wake func()) {
	p.mu.Lock()
	if flow != 0 && p.flows[flow] == nil {
		p.flows[flow] = &queue{wake: wake}
	}
	p.mu.Unlock()
}

// Delist ends that, and drops what is there.
func (p *Path) Delist(flow uint32) {
	p.mu.Lock()
	if q := p.flows[flow]; q != nil {
		for _, b := range q.all {
			p.held -= len(b)
		}
		delete(p.flows, flow)
	}
	p.mu.Unlock()
}

// Waits reports whether a datagram of a flow is there.
func (p *Path) Waits(flow uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.flows[flow]
	return q != nil && len(q.all) > 0
}

// Next takes the next datagram of a flow, cut to b as a socket does. It reports false if there is
// none.
func (p *Path) Next(flow uint32, b []byte) (n int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.flows[flow]
	if q == nil || len(q.all) == 0 {
		return 0, false
	}
	first := q.all[0]
	q.all = slices.Delete(q.all, 0, 1)
	p.held -= len(first)
	return copy(b, first), true
}

// packets hold one packet each.
var packets = buffer.NewClasses(2 << 10)

// Send sends a datagram of a flow. It reports false where it is to take the other way: it is too
// long, or the path is over or doubtful.
func (p *Path) Send(flow uint32, payload []byte) bool {
	if len(payload) > MaxPayload || !p.mayUse() {
		return false
	}
	return p.send(flow, payload)
}

// mayUse reports whether datagrams may go, and notes that one does.
func (p *Path) mayUse() bool {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending != noEnd || !p.asked.IsZero() && now.Sub(p.asked) > answerTimeout {
		return false
	}
	p.used = now
	if p.asked.IsZero() {
		p.asked = now
	}
	p.carried[0]++
	return true
}

// send seals a payload and writes it.
func (p *Path) send(flow uint32, payload []byte) bool {
	b := packets.Get(maxPacket)
	defer packets.Put(b)
	packet, ok := p.out.append((*b)[:0], flow, payload)
	if !ok {
		p.end(UsedUp)
		return false
	}
	_, err := p.conn.Write(packet)
	return err == nil
}

// Run keeps the path until it ends, at the latest with ctx or when session is closed, and returns why.
func (p *Path) Run(ctx context.Context, session <-chan struct{}) Ending {
	read := make(chan struct{})
	go func() { // ends with the socket
		defer close(read)
		p.read()
	}()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.look(now)
		case <-ctx.Done():
			p.Leave()
		case <-session:
			p.Leave()
		case <-p.done:
			<-read
			return p.ending
		}
	}
}

// Leave ends the path, and tells the peer.
func (p *Path) Leave() {
	p.send(ownFlow, []byte{byeType})
	p.end(Here)
}

// Place is where the peer is, and the own address.
func (p *Path) Place() direct.Candidate { return p.at }

// Done is closed when the path is over.
func (p *Path) Done() <-chan struct{} { return p.done }

// Carried returns how many datagrams were sent and received.
func (p *Path) Carried() (sent, received int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.carried[0], p.carried[1]
}

func (p *Path) end(why Ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending == noEnd {
		p.ending = why
		close(p.done)
		p.conn.Close()
	}
}

// look asks for a sign of life where one is due, and ends a path that gives none or is not used.
func (p *Path) look(now time.Time) {
	p.mu.Lock()
	ask, ending := p.dueLocked(now)
	p.mu.Unlock()
	switch {
	case ending == AtRest:
		p.send(ownFlow, []byte{byeType})
		fallthrough
	case ending != noEnd:
		p.end(ending)
	case ask:
		p.send(ownFlow, []byte{probeType})
	}
}

func (p *Path) dueLocked(now time.Time) (ask bool, ending Ending) {
	waiting := !p.asked.IsZero()
	switch {
	case waiting && now.Sub(p.asked) > maxSilent:
		return false, Silent
	case now.Sub(p.used) > maxIdle:
		return false, AtRest
	case waiting && now.Sub(p.asked) >= lookEvery/2 || now.Sub(p.heard) > keepAlive && now.Sub(p.pinged) > keepAlive:
		p.pinged = now
		if !waiting {
			p.asked = now
		}
		return true, noEnd
	}
	return false, noEnd
}

// read takes what comes until the path ends.
func (p *Path) read() {
	b := make([]byte, maxPacket+1) // a longer one is none of ours
	errs := 0
	for errs < maxErrs {
		n, err := p.conn.Read(b)
		if err != nil {
			select {
			case <-p.done:
				return
			default:
			}
			errs++
			continue
		}
		errs = 0
		if flow, payload, ok := p.in.open(b[:n]); ok {
			p.take(flow, payload)
		}
	}
	p.end(Silent)
}

// take gives a payload to its flow.
func (p *Path) take(flow uint32, payload []byte) {
	p.mu.Lock()
	p.heard, p.asked = time.Now(), time.Time{}
	if flow == ownFlow {
		p.mu.Unlock()
		p.control(payload)
		return
	}
	wake := func() {}
	if q := p.flows[flow]; q != nil && len(q.all) < maxQueued && p.held+len(payload) <= maxHeld {
		q.all = append(q.all, slices.Clone(payload))
		p.held += len(payload)
		p.used = p.heard
		p.carried[1]++
		wake = q.wake
	}
	p.mu.Unlock()
	wake()
}

// control acts on what the peer says about the path itself.
func (p *Path) control(payload []byte) {
	if len(payload) == 0 {
		return
	}
	switch t := payload[0]; {
	case t == byeType:
		p.end(ByPeer)
	case isQuestion(t):
		payload[0] |= answerBit
		p.send(ownFlow, payload)
	}
}
