package exit

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/apps/udp"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// core carries flows to targets that were reached. Outbounds have one each, and all forwards have
// one together.
type core struct {
	log      *slog.Logger // static
	refusals *limit.Log   // static
	Stats    traffic.Counters
	limits   traffic.Limiter
	queued   atomic.Int64 // bytes in the queues of all flows of datagrams
}

func newCore(log *slog.Logger) core { return core{log: log, refusals: limit.NewLog(log)} }

// reached is a connection to the target of a flow.
type reached struct {
	net.Conn
	protocol string // spec.TCP or spec.UDP

	refused func()        // called when a target of datagrams refuses them, which happens after the flow was accepted
	idle    time.Duration // how long datagrams may stay away
	leave   func()        // called when the flow is over
}

// carry accepts a flow and carries it until it is over. It closes the target, and leaves it. An
// error means that the flow was not accepted.
func (x *core) carry(ctx context.Context, f apps.Flow, target *reached) error {
	if target.protocol == spec.UDP {
		return x.carryDatagrams(ctx, f, target)
	}
	c, err := x.accept(f, target)
	if err == nil {
		_, _, err = splice.Join(ctx, c.flow, c.target) // a flow at rest waits here
		x.over(f, c.tally, err)
		err = nil
	}
	target.leave()
	return err
}

// accepted is a flow, and its target as it is counted and held to the limits.
type accepted struct {
	flow, target net.Conn
	tally        *traffic.Tally
}

// accept accepts a flow of bytes, or closes the target.
func (x *core) accept(f apps.Flow, target *reached) (*accepted, error) {
	flow, err := f.Accept()
	if err != nil {
		target.Close()
		return nil, notAccepted()
	}
	tally := x.Stats.Flow(f.Peer().ID)
	return &accepted{flow, traffic.Meter(target.Conn, &x.limits.Down, &x.limits.Up, tally.Down, tally.Up), tally}, nil
}

func notAccepted() error { return answer.Errorf(answer.Broken, "the flow ended before it began") }

// over notes that a flow has ended.
func (x *core) over(f apps.Flow, tally *traffic.Tally, err error) {
	tally.End()
	if err != nil {
		x.log.Debug("flow ended", "peer", f.Peer().ID, "err", err)
	}
}

// carryDatagrams is carry for a flow of datagrams.
func (x *core) carryDatagrams(ctx context.Context, f apps.Flow, target *reached) error {
	defer target.leave()
	defer target.Close()
	flow, err := f.AcceptDatagrams()
	if err != nil {
		return notAccepted()
	}
	tally := x.Stats.Flow(f.Peer().ID)
	x.over(f, tally, x.relay(ctx, flow, target, tally))
	return nil
}

// relay carries datagrams until the flow is over.
func (x *core) relay(ctx context.Context, flow net.Conn, target *reached, tally *traffic.Tally) error {
	r := &traffic.Relay{Flow: flow, Queue: traffic.NewQueue(&x.queued, &x.Stats.Dropped), Idle: target.idle,
		In: tally.Down, Out: tally.Up, ToRate: &x.limits.Down, FromRate: &x.limits.Up, Dropped: &x.Stats.Dropped,
		Send: func(b []byte) error {
			_, err := target.Write(b)
			return target.check(err)
		}}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer r.Queue.Close()
		target.receive(r.Queue)
	})
	err := r.Run(ctx)
	target.Close()
	reader.Wait()
	return err
}

// receive queues what a target sends until its socket is closed or the target refuses.
func (t *reached) receive(q *traffic.Queue) {
	in := udp.NewReader(t.Conn)
	for {
		if err := in.Read(q.Put); err != nil {
			t.check(err)
			return
		}
	}
}

// check makes a target's refusal the end of the flow: the client's next datagram begins a new one,
// at another target if there is one.
func (t *reached) check(err error) error {
	if reach.IsRefused(err) {
		t.refused()
		return net.ErrClosed
	}
	return err
}

// CloseWrite passes a half-close on to a target that can.
func (t *reached) CloseWrite() error { return splice.CloseWrite(t.Conn) }

// Reset ends the connection so that the target sees a failure.
func (t *reached) Reset() error {
	splice.Abort(t.Conn)
	return nil
}
