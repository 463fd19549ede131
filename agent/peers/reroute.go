package peers

import (
	"context"
	"errors"
	"time"

	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// A flow with a connection of its own follows the path, without a lost byte: package flow says how.
//
//	a direct session is there         -> straighten: flows through a hub go on in direct connections
//	a mode or the policy forbids it,  -> straighten: they go back to the hub
//	or the peer takes no more flows
//	reapEvery                         -> both, and a direct path is wished for where there is none
//
// The entrance dials, and asks in the new connection as it did in the first one. What breaks is not
// moved: its bytes are lost with it.

// via is what a dedicated connection goes through.
type via struct {
	hub   identity.ID // "": none
	along *outSession // the direct session at whose address it was dialled; nil: it is through a hub
}

// goesOver says what a flow of ours goes through from now on, and whether it can go on elsewhere. A
// session that a flow goes along is not at rest.
func (p *Peers) goesOver(f *outFlow, over via, moves bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.leaveLocked()
	f.via, f.moves = over, moves
	if _, lives := p.outFlows[f]; lives && over.along != nil {
		over.along.alongside.Add(1)
	} else {
		f.along = nil
	}
}

// staysForGood says that a flow cannot go on elsewhere any more: nobody knows what the peer has agreed to.
func (p *Peers) staysForGood(f *outFlow) {
	p.mu.Lock()
	f.moves = false
	p.mu.Unlock()
}

// leaveLocked has the flow go along no session.
func (f *outFlow) leaveLocked() {
	if f.along != nil {
		f.along.alongside.Add(-1)
		f.along = nil
	}
}

// follow has the flows that we opened go the way that they should, and makes a better one.
func (p *Peers) follow() {
	for _, f := range p.opened() {
		if p.wants(f) {
			p.wish(f.peer.ID)
		}
		p.straighten(f)
	}
}

// wants reports whether a flow is worth a direct path: one that could go on there, and one that has
// lasted, until there was such a path. For the latter that is good for the flows that begin.
func (p *Peers) wants(f *outFlow) bool {
	there := p.pool.directTo(f.peer.ID) != nil
	p.mu.Lock()
	f.asks = f.asks && !there
	wants := f.asks || f.moves && f.hub != ""
	p.mu.Unlock()
	return wants
}

// straightenAll has the flows that we opened go the way that they should.
func (p *Peers) straightenAll() {
	for _, f := range p.opened() {
		p.straighten(f)
	}
}

// straighten has a flow with a connection of its own go on in another if it should.
func (p *Peers) straighten(f *outFlow) {
	p.mu.Lock()
	along, directly := f.along, f.hub != ""
	may := f.moves && !f.moving && (directly || along != nil)
	p.mu.Unlock()
	if !may || directly && p.pool.directTo(f.peer.ID) == nil || !directly && p.mayGoAlong(along) {
		return
	}
	if !p.setMoving(f, true) {
		return
	}
	if !p.Work.GoUpTo(&p.offloads, limits.Offloads, func() { p.reroute(f, directly) }) {
		p.setMoving(f, false) // until the next time
	}
}

// mayGoAlong reports whether a flow may go along a direct session. One that is over, or at rest, says
// nothing: connections of flows break by themselves.
func (p *Peers) mayGoAlong(s *outSession) bool {
	return p.Mode().Allows(s.at.Kind) && !errors.Is(s.Err(), h2.ErrClosed)
}

// setMoving says that a flow is about to go on in another connection, or is through with that. It
// reports whether that is news.
func (p *Peers) setMoving(f *outFlow, moving bool) (news bool) {
	p.mu.Lock()
	news = f.moving != moving
	f.moving = moving
	p.mu.Unlock()
	return news
}

// reroute has a flow go on in another connection, directly or through a hub.
func (p *Peers) reroute(f *outFlow, directly bool) {
	ctx, cancel := context.WithTimeout(p.Life, dialTimeout)
	defer cancel()
	err := p.goOn(ctx, f, directly)
	p.setMoving(f, false)
	if err != nil {
		p.Log.Debug("a flow stays in its connection", "peer", f.peer.ID, "directly", directly, "err", err)
		return
	}
	p.Log.Debug("a flow goes on in another connection", "peer", f.peer.ID, "directly", directly)
	p.straighten(f) // the path may have changed meanwhile
}

// goOn dials, and has the flow go on there.
func (p *Peers) goOn(ctx context.Context, f *outFlow, directly bool) error {
	if err := f.Movable(ctx); err != nil {
		return err
	}
	dial := p.dialRelayed
	if directly {
		dial = p.dialDirect
	}
	d, over, err := dial(ctx, f.peer.ID)
	if err != nil {
		return err
	}
	unknown := false
	err = f.Reroute(ctx, d, func() error {
		_, err := askOffload(d, f.id, true)
		unknown = err != nil && !errors.As(err, new(*flow.Refused))
		return err
	})
	if unknown {
		p.staysForGood(f)
	}
	if err != nil {
		d.Reset()
		return err
	}
	p.goesOver(f, over, true)
	return nil
}

// restTime is how long a peer that asks for the next move waits until the last one is over here.
const restTime = 5 * time.Second

// answerReroute has a flow that a peer opened go on in another connection, or tells the peer that it
// stays where it is.
func (p *Peers) answerReroute(d *seal.Dedicated, key flowKey, hub identity.ID) error {
	ctx, cancel := context.WithTimeout(p.Life, restTime)
	defer cancel()
	f := p.offloadedOf(key)
	err, asked := errNoFlow, false
	if f != nil {
		err = f.conn.Reroute(ctx, d, func() error {
			asked = true
			return agree(d)
		})
	}
	switch {
	case err == nil:
		p.mu.Lock()
		f.hub = hub
		p.mu.Unlock()
	case !asked:
		if tunnel.WriteError(d, answer.Errorf(answer.Conflict, "%v", err)) == nil {
			d.Close() // with its last word, which a reset could overtake
		}
	}
	return err
}

// offloadedOf returns a flow that a peer opened and that has a connection of its own; nil if there is
// none of that name.
func (p *Peers) offloadedOf(key flowKey) *inFlow {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.named[key]; f != nil && f.conn != nil && f.moved {
		return f
	}
	return nil
}
