package peers

import (
	"context"
	"slices"
	"sync"
	"time"

	"ztm/agent/limits"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// pool keeps the sealed sessions that this agent opened: warm, shared by flows, bounded per peer.
//
// New flows avoid a session that is loaded, until the flow that loads it is offloaded: they would
// wait behind its bytes. The first of them has another session opened and shares meanwhile, for
// opening one takes longer than that. Where there are limits.LoadedSessions, all share.
//
// A session that is doubtful gets no new flows: it seems to hang, and there is another way.
type pool struct {
	dial     func(ctx context.Context, to, avoid identity.ID) (*outSession, error)
	doubtful func(*outSession) bool

	life context.Context // ends with close
	stop context.CancelFunc
	wg   sync.WaitGroup // dials

	mu    sync.Mutex
	peers map[identity.ID]*peerSessions // guarded by mu
}

type peerSessions struct {
	sessions []*outSession
	old      []*outSession // get no new flows, and end with those that they have
	dialing  *dialing      // nil: none is being opened
}

// dialing is one attempt that any number of flows wait for.
type dialing struct {
	done    chan struct{} // closed when session and err are set
	session *outSession
	err     error
}

const (
	dialTimeout = 20 * time.Second // path and handshake
	maxIdle     = 90 * time.Second // a session without flows is closed after so long
	reapEvery   = 30 * time.Second
)

func newPool(dial func(ctx context.Context, to, avoid identity.ID) (*outSession, error), doubtful func(*outSession) bool) *pool {
	p := &pool{dial: dial, doubtful: doubtful, peers: map[identity.ID]*peerSessions{}}
	p.life, p.stop = context.WithCancel(context.Background())
	return p
}

// get returns a session with a stream that is reserved for the caller, opening one if need be.
func (p *pool) get(ctx context.Context, to identity.ID) (*outSession, error) {
	for lost := 0; ; {
		s, d, err := p.reserve(to)
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if d.err != nil {
			return nil, d.err
		}
		select {
		case <-d.session.Done():
			if lost++; lost > 1 {
				return nil, answer.Errorf(answer.Broken, "the session with endpoint %s broke", to)
			}
		default: // there may be more that wait than it has streams
		}
	}
}

// reserve reserves a stream of the best session with a peer, or returns the dialing of one that is
// to be waited for. It also has a session opened before it must be waited for.
func (p *pool) reserve(to identity.ID) (*outSession, *dialing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		return nil, nil, answer.Errorf(answer.Unavailable, "the mesh was left")
	}
	ps := p.ofLocked(to)
	best, loaded := ps.pick(p.doubtful)
	if best != nil && best.Reserve() != nil {
		best = nil
	}
	if ps.dialing == nil && ps.wanted(best, loaded) {
		d := &dialing{done: make(chan struct{})}
		ps.dialing = d
		avoid := ps.avoid(p.doubtful)
		p.wg.Go(func() { p.open(to, avoid, ps, d) })
	}
	if best == nil && ps.dialing == nil {
		return nil, nil, answer.Errorf(answer.Limit, "all %d sessions with endpoint %s are full", len(ps.sessions), to)
	}
	return best, ps.dialing, nil
}

func (p *pool) ofLocked(to identity.ID) *peerSessions {
	ps := p.peers[to]
	if ps == nil {
		ps = &peerSessions{}
		p.peers[to] = ps
	}
	return ps
}

// lowStreams is how many free streams of the best session have another opened: as many flows as
// begin while that takes.
const lowStreams = 32

// wanted reports whether another session is to be opened.
func (ps *peerSessions) wanted(best *outSession, loaded bool) bool {
	switch n := len(ps.sessions); {
	case best == nil || best.Free() < lowStreams:
		return n < limits.FullSessions
	default:
		return loaded && !best.is() && n < limits.LoadedSessions // what would be opened is relayed
	}
}

// avoid is the hub of a session that is doubtful; "" if there is none.
func (ps *peerSessions) avoid(doubtful func(*outSession) bool) identity.ID {
	for _, s := range ps.sessions {
		if doubtful(s) {
			return s.hub
		}
	}
	return ""
}

// pick drops dead sessions and returns the one that is not doubtful which new flows use: see better.
func (ps *peerSessions) pick(doubtful func(*outSession) bool) (best *outSession, loaded bool) {
	alive := ps.sessions[:0]
	var of rank
	for _, s := range ps.sessions {
		select {
		case <-s.Done():
			continue
		default:
		}
		alive = append(alive, s)
		if s.Err() != nil || doubtful(s) {
			continue // full, closing, or hanging
		}
		flows, isLoaded := s.Load()
		if r := (rank{s.is(), isLoaded, flows}); best == nil || r.better(of) {
			best, of = s, r
		}
	}
	clear(ps.sessions[len(alive):])
	ps.sessions = alive
	return best, of.loaded
}

// rank is what decides between sessions.
type rank struct {
	direct, loaded bool
	flows          int
}

// better reports whether new flows use r before o: a direct session before any that is relayed, then
// one that is not loaded, then the one with the fewest flows.
func (r rank) better(o rank) bool {
	switch {
	case r.direct != o.direct:
		return r.direct
	case r.loaded != o.loaded:
		return o.loaded
	}
	return r.flows < o.flows
}

// open dials in the pool's own time: a flow that gives up must not take the session from the others
// that wait.
func (p *pool) open(to, avoid identity.ID, ps *peerSessions, d *dialing) {
	ctx, cancel := context.WithTimeoutCause(p.life, dialTimeout, answer.Errorf(answer.Timeout, "endpoint %s does not answer", to))
	defer cancel()
	d.session, d.err = p.dial(ctx, to, avoid)
	p.mu.Lock()
	defer p.mu.Unlock()
	ps.dialing = nil
	if d.err == nil && p.life.Err() != nil {
		d.session.Close()
		d.session, d.err = nil, context.Cause(p.life)
	}
	if d.err == nil {
		ps.sessions = append(ps.sessions, d.session)
	}
	close(d.done)
}

func (p *pool) reap(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, ps := range p.peers {
		ps.pick(p.doubtful)
		ps.old = slices.DeleteFunc(ps.old, func(s *outSession) bool {
			_, idle := s.IdleSince()
			if idle {
				go s.Close() // may wait a second for the peer
			}
			return idle
		})
		for _, s := range ps.sessions {
			since, idle := s.IdleSince()
			if idle && (now.Sub(since) > maxIdle || s.Err() != nil) && s.alongside.Load() == 0 { // at rest, or the peer takes no more
				if s.is() {
					s.retired.Store(true)
				}
				go s.Close() // may wait a second for the peer; pick drops it next time
			}
		}
		if len(ps.sessions)+len(ps.old) == 0 && ps.dialing == nil {
			delete(p.peers, id)
		}
	}
}

// retire has new flows use other sessions than those that match.
func (p *pool) retire(match func(*outSession) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.peers {
		all := ps.sessions
		ps.sessions = nil
		for _, s := range all {
			list := &ps.sessions
			if match(s) {
				list = &ps.old
				if s.is() {
					s.retired.Store(true)
				}
			}
			*list = append(*list, s)
		}
	}
}

// supersede retires all sessions: they rest on a certificate that was replaced.
func (p *pool) supersede() { p.retire(func(*outSession) bool { return true }) }

// retireDirect has new flows use relayed sessions.
func (p *pool) retireDirect() { p.retire(func(s *outSession) bool { return s.is() }) }

// warm returns how many sessions to a peer are open.
func (p *pool) warm(to identity.ID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ps := p.peers[to]; ps != nil {
		ps.pick(p.doubtful)
		return len(ps.sessions)
	}
	return 0
}

// ids lists the peers with whom sessions are open.
func (p *pool) ids() (out []identity.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, ps := range p.peers {
		if ps.pick(p.doubtful); len(ps.sessions) > 0 {
			out = append(out, id)
		}
	}
	return out
}

// each calls f with each session that this device opened.
func (p *pool) each(f func(*outSession)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.peers {
		for _, s := range slices.Concat(ps.sessions, ps.old) {
			f(s)
		}
	}
}

// closeIf closes the sessions with the peers that the function names.
func (p *pool) closeIf(match func(identity.Subject) bool) {
	var out []*outSession
	p.each(func(s *outSession) {
		if match(s.Peer()) {
			out = append(out, s)
		}
	})
	var wg sync.WaitGroup
	for _, s := range out {
		wg.Go(func() { s.Close() })
	}
	wg.Wait()
}

// close ends all sessions and waits.
func (p *pool) close() {
	p.stop()
	p.closeIf(func(identity.Subject) bool { return true })
	p.wg.Wait()
}
