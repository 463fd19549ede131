package peers

import (
	"context"
	"errors"
	"net"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// A flow that moves much gets a connection of its own, see package flow. The entrance asks for it:
//
//  1. the request that opened the flow named it: seal.FieldFlow, a random ID
//  2. a dedicated path, sealed with seal.OffloadProto, header block: flow ID
//  3. the exit looks the ID up among the flows of that peer, answers :status 200, and offloads; so does the entrance
//
// Where any of it fails, the flow stays where it is. The path is a connection of its own at both
// ends: a reader that stops would leave its bytes in the control session unread, and that session's
// window is what the agent hears the hub through.
const (
	fieldFlow      = "flow"
	fieldAgain     = "again" // the flow has a connection already, or may have another one later: reroute.go
	yes            = "?1"
	offloadTimeout = 10 * time.Second // for one header block of the peer
)

// offload offloads a flow that we opened.
func (p *Peers) offload(f *outFlow) {
	peer := f.peer.ID
	ctx, cancel := context.WithTimeout(p.Life, dialTimeout)
	defer cancel()
	d, over, err := p.dialDedicated(ctx, f)
	if err == nil {
		var moves bool
		if moves, err = askOffload(d, f.id, false); err == nil {
			f.Offload(d)
			p.goesOver(f, over, moves)
			p.Log.Debug("a flow was offloaded to a dedicated connection", "peer", peer)
			p.straighten(f) // the path may have changed meanwhile
			return
		}
		d.Reset()
	}
	p.Log.Debug("a flow is not offloaded", "peer", peer, "err", err)
}

// dialDedicated opens a direct connection, and where there is none, one through a hub. A flow that
// is direct stays where it is instead, and one that has ended meanwhile needs none.
func (p *Peers) dialDedicated(ctx context.Context, f *outFlow) (*seal.Dedicated, via, error) {
	peer := f.peer.ID
	p.wish(peer)
	p.await(ctx, peer, offloadWait)
	if !p.isOpen(f) {
		return nil, via{}, errEnded
	}
	if d, over, err := p.dialDirect(ctx, peer); err == nil || f.direct {
		return d, over, err
	}
	return p.dialRelayed(ctx, peer)
}

// isOpen reports whether a flow that we opened is.
func (p *Peers) isOpen(f *outFlow) bool {
	p.mu.Lock()
	_, is := p.outFlows[f]
	p.mu.Unlock()
	return is
}

// dialRelayed opens a connection through a hub, for one flow.
func (p *Peers) dialRelayed(ctx context.Context, peer identity.ID) (*seal.Dedicated, via, error) {
	path, hub, err := p.Hubs.Path(ctx, peer, true, "")
	if err != nil {
		return nil, via{}, err
	}
	d, err := seal.ClientDedicated(ctx, path, p.Verifier, p.Certificate(), peer)
	return d, via{hub: hub}, err
}

// askOffload asks the peer to have a flow go on in a connection, for the first time or again. moves is
// that it can do so again. If the peer says no, the error is a *[flow.Refused].
func askOffload(d *seal.Dedicated, id string, again bool) (moves bool, err error) {
	d.SetDeadline(time.Now().Add(offloadTimeout))
	fields := []string{fieldFlow, id}
	if again {
		fields = append(fields, fieldAgain, yes)
	}
	if err := tunnel.WriteHeader(d, fields...); err != nil {
		return false, err
	}
	h, err := tunnel.ReadHeader(d)
	if err != nil {
		return false, err
	}
	if err := h.Err(); err != nil {
		if no := new(answer.Error); errors.As(err, &no) {
			err = &flow.Refused{Reason: no}
		}
		return false, err
	}
	return h[fieldAgain] == yes, d.SetDeadline(time.Time{})
}

var (
	errNoFlow    = errors.New("the peer has no such flow")
	errEnded     = errors.New("the flow has ended")
	errNotDirect = errors.New("there is no direct session with the peer")
	errShared    = errors.New("the path is a stream of the control session")
)

// acceptOffload offloads a flow that a peer opened.
func (p *Peers) acceptOffload(a seal.Accepted, path net.Conn, hub identity.ID) {
	err := errShared
	if _, shared := path.(*h2.Stream); !shared {
		err = p.answerOffload(a.Dedicated, a.Peer.ID, hub)
	}
	if err != nil {
		p.Log.Debug("a dedicated connection was refused", "peer", a.Peer.ID, "err", err)
		a.Dedicated.Reset()
	}
}

func (p *Peers) answerOffload(d *seal.Dedicated, peer, hub identity.ID) error {
	d.SetDeadline(time.Now().Add(offloadTimeout))
	h, err := tunnel.ReadHeader(d)
	if err != nil {
		return err
	}
	key := flowKey{peer, h[fieldFlow]}
	if h[fieldAgain] == yes {
		return p.answerReroute(d, key, hub)
	}
	conn := p.claim(key, hub)
	if conn == nil {
		return errNoFlow
	}
	// The answer comes first: what the flow writes next is for the dedicated connection.
	if err := agree(d); err != nil {
		return err
	}
	conn.Offload(d)
	return nil
}

// agree answers that the flow goes on in the connection.
func agree(d *seal.Dedicated) error {
	if err := tunnel.WriteHeader(d, tunnel.FieldStatus, "200", fieldAgain, yes); err != nil {
		return err
	}
	return d.SetDeadline(time.Time{})
}

// claim returns a flow that a peer opened and that was accepted, once: it is to be offloaded through a
// hub.
func (p *Peers) claim(key flowKey, hub identity.ID) *flow.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.named[key]
	if f == nil || f.conn == nil || f.moved {
		return nil
	}
	f.moved, f.hub = true, hub
	return f.conn
}
