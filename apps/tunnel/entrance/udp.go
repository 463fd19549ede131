// The entrance of a UDP tunnel. The way of one datagram from a client:
//
//	serveUDP: read, find the client's session -> its queue -> flow ~~~ exit
//
//  1. Every client address has a session, which is one flow; a datagram from an address without one
//     begins it.
//  2. On a port that listens on all addresses of the machine, the address that the client writes to
//     belongs to the session: the answers leave from it (see package udp).

package entrance

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps/listen"
	"ztm/apps/reach"
	"ztm/apps/tunnel/traffic"
	"ztm/apps/udp"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
)

const (
	// maxSessions bounds the clients of one UDP port at the same time. Their addresses are easily
	// forged: where there are too many, a new client takes the place of the one that waits for its
	// first answer the longest.
	maxSessions = 4096
	// sessionPause is how long the datagrams of a client are dropped after its flow could not be
	// opened, so that a client that keeps sending does not keep asking.
	sessionPause = time.Second
	// limitTimeout is how long a client waits for a flow where there are too many, limitMin and
	// limitMax how often that is tried.
	limitTimeout = 10 * time.Second
	limitMin     = 50 * time.Millisecond
	limitMax     = time.Second
	// socketBuffer is what the system is asked to keep of a port's datagrams while the agent does
	// something else, in bytes. All clients of the port share it. It is a wish: the system has
	// limits of its own.
	socketBuffer = 1 << 20
)

// udpPort is one open port of an inbound.
type udpPort struct {
	in     *Inbound
	l      *listener
	socket *udp.Socket

	mu         sync.Mutex
	sessions   map[udp.Path]*session
	unanswered []*session // in the order in which they began; those that ended or were answered may be in it
}

// session is one client of a port.
type session struct {
	udp.Path
	queue    *traffic.Queue
	stop     context.CancelFunc
	answered atomic.Bool // a datagram came back for the client: its address is its own
}

// serveUDP serves one open port until it is closed. Its sessions end with it.
func (in *Inbound) serveUDP(ctx context.Context, l *listener, socket *udp.Socket) {
	p := &udpPort{in: in, l: l, socket: socket, sessions: map[udp.Path]*session{}}
	defer p.end()
	socket.SetReadBuffer(socketBuffer)
	retry := listen.AcceptBackoff()
	buf := make([]byte, udp.MaxPacket)
	for {
		n, from, err := socket.Receive(buf)
		switch {
		case err == nil:
			retry.Reset()
			if s := p.session(from); s != nil {
				s.queue.Put(buf[:n])
			}
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		case reach.IsRefused(err):
			// A client has closed its port while an answer was on its way to it. That is no fault
			// of ours.
		default:
			if retry.First() {
				in.log.Warn("cannot receive, retrying", "listen", l.address, "err", err)
			}
			pause.For(ctx, retry.Next())
		}
	}
}

// session returns the session of a client, and begins it if there is none. It returns nil when
// there are too many whose clients were answered.
func (p *udpPort) session(from udp.Path) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[from]; s != nil {
		return s
	}
	if len(p.sessions) >= maxSessions && !p.makeRoomLocked() {
		p.in.stats.Failed(answer.Errorf(answer.Limit, "too many clients"))
		return nil
	}
	s := &session{Path: from, queue: traffic.NewQueue(&p.in.queued, &p.in.stats.Dropped)}
	stop, ok := p.in.group.Go(func(ctx context.Context) { p.serve(ctx, s) })
	if !ok {
		return nil
	}
	s.stop = stop
	p.sessions[from] = s
	if len(p.unanswered) >= 2*maxSessions {
		p.unanswered = slices.DeleteFunc(p.unanswered, p.settledLocked)
	}
	p.unanswered = append(p.unanswered, s)
	return s
}

// settledLocked reports whether a session has ended or was answered.
func (p *udpPort) settledLocked(s *session) bool {
	return s.answered.Load() || p.sessions[s.Path] != s
}

// makeRoomLocked ends the session that waits for its first answer the longest.
func (p *udpPort) makeRoomLocked() bool {
	for len(p.unanswered) > 0 {
		s := p.unanswered[0]
		p.unanswered = p.unanswered[1:]
		if !p.settledLocked(s) {
			delete(p.sessions, s.Path)
			s.stop()
			return true
		}
	}
	return false
}

// serve opens the flow of a session and carries its datagrams until it ends.
func (p *udpPort) serve(ctx context.Context, s *session) {
	defer p.forget(s)
	in := p.in
	client := net.UDPAddrFromAddrPort(s.Client)
	leave, err := in.limits.Enter(in.Key)
	if err != nil {
		p.turnAway(ctx, s, "", err)
		return
	}
	defer leave()
	flow, exit, err := p.reach(ctx, in.query(p.l, client, p.socket.Server(s.Path)))
	if err != nil {
		p.turnAway(ctx, s, exit, err)
		return
	}
	defer in.pool.Took(string(exit))()
	tally := in.stats.Flow(exit)
	defer tally.End()
	r := &traffic.Relay{Flow: flow, Queue: s.queue, Idle: in.Settings().Idle.Or(traffic.DefaultIdle),
		In: tally.Up, Out: tally.Down, ToRate: &in.limits.Up, FromRate: &in.limits.Down, Dropped: &in.stats.Dropped,
		Send: p.answer(s)}
	ended := in.began(client)
	err = r.Run(ctx)
	ended(r.Up, r.Down)
	in.log.Debug("flow of datagrams ended", "peer", exit, "client", s.Client, "err", err)
}

// reach opens the flow of a client. Its datagrams wait meanwhile: a limit that is met because many
// clients come at once is waited for, since most of these clients would not come again.
func (p *udpPort) reach(ctx context.Context, q url.Values) (net.Conn, identity.ID, error) {
	retry := listen.Backoff{Min: limitMin, Max: limitMax}
	for late := time.Now().Add(limitTimeout); ; {
		flow, exit, err := p.in.reach(ctx, p.in.mesh.OpenDatagrams, q)
		if answer.CodeOf(err) != answer.Limit || ctx.Err() != nil || time.Now().After(late) {
			return flow, exit, err
		}
		pause.For(ctx, retry.Next())
	}
}

// answer returns what sends the client its answers.
func (p *udpPort) answer(s *session) func([]byte) error {
	send := p.socket.To(s.Path)
	return func(b []byte) error {
		s.answered.Store(true)
		return send(b)
	}
}

// turnAway drops the datagrams of a client for a while.
func (p *udpPort) turnAway(ctx context.Context, s *session, exit identity.ID, err error) {
	p.in.turnAway(net.UDPAddrFromAddrPort(s.Client), exit, err)
	s.queue.Close()
	pause.For(ctx, sessionPause)
}

// forget removes a session that has ended.
func (p *udpPort) forget(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.Path] == s { // no other client took its place
		delete(p.sessions, s.Path)
	}
	s.queue.Close()
}

func (p *udpPort) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		s.stop()
	}
}
