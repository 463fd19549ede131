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
	refused func() // called when a target of datagrams refuses them, which happens after the flow was accepted
}

// carry accepts a flow and carries it until it is over. It closes the target. An error means that
// the flow was not accepted.
func (x *core) carry(ctx context.Context, f apps.Flow, protocol string, target reached, idle time.Duration) error {
	defer target.Close()
	accept := f.Accept
	if protocol == spec.UDP {
		accept = f.AcceptDatagrams
	}
	flow, err := accept()
	if err != nil {
		return answer.Errorf(answer.Broken, "the flow ended before it began")
	}
	tally := x.Stats.Flow(f.Peer().ID)
	defer tally.End()
	if protocol == spec.UDP {
		err = x.carryDatagrams(ctx, flow, target, tally, idle)
	} else {
		_, _, err = splice.Join(ctx, flow, traffic.Meter(target.Conn, &x.limits.Down, &x.limits.Up, tally.Down, tally.Up))
	}
	if err != nil {
		x.log.Debug("flow ended", "peer", f.Peer().ID, "err", err)
	}
	return nil
}

func (x *core) carryDatagrams(ctx context.Context, flow net.Conn, target reached, tally *traffic.Tally, idle time.Duration) error {
	r := &traffic.Relay{Flow: flow, Queue: traffic.NewQueue(&x.queued, &x.Stats.Dropped), Idle: idle,
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
func (t reached) receive(q *traffic.Queue) {
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
func (t reached) check(err error) error {
	if reach.IsRefused(err) {
		t.refused()
		return net.ErrClosed
	}
	return err
}

// CloseWrite passes a half-close on to a target that can.
func (t reached) CloseWrite() error { return traffic.CloseWrite(t.Conn) }

// Reset ends the connection so that the target sees a failure.
func (t reached) Reset() error {
	splice.Abort(t.Conn)
	return nil
}
