package tunnel

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// exit carries flows to targets that were reached. Outbounds have one each, and all forwards have one together.
type exit struct {
	log    *slog.Logger // static
	turned *limit.Log   // static; for flows that are refused
	stats  stats
	limits limiter
	queued atomic.Int64 // bytes in the queues of all flows of datagrams
}

func newExit(log *slog.Logger) exit { return exit{log: log, turned: limit.NewLog(log)} }

// reached is a connection to the target of a flow.
type reached struct {
	net.Conn
	refused func() // is told when a target of datagrams refuses them, which comes after the fact
}

// carry accepts a flow and carries it until it is over. It closes the target. An error means that the flow was not
// accepted.
func (x *exit) carry(ctx context.Context, f apps.Flow, protocol string, target reached, idle time.Duration) error {
	defer target.Close()
	accept := f.Accept
	if protocol == UDP {
		accept = f.AcceptDatagrams
	}
	flow, err := accept()
	if err != nil {
		return answer.Errorf(answer.Broken, "the flow ended before it began")
	}
	tally := x.stats.flow(f.Peer().ID)
	defer tally.end()
	if protocol == UDP {
		err = x.carryDatagrams(ctx, flow, target, tally, idle)
	} else {
		_, _, err = splice.Join(ctx, flow, meter(target, &x.limits.down, &x.limits.up, tally.down, tally.up))
	}
	if err != nil {
		x.log.Debug("flow ended", "peer", f.Peer().ID, "err", err)
	}
	return nil
}

func (x *exit) carryDatagrams(ctx context.Context, flow net.Conn, target reached, tally *tally, idle time.Duration) error {
	r := &relay{flow: flow, queue: newQueue(&x.queued, &x.stats.dropped), idle: idle,
		in: tally.down, out: tally.up, toRate: &x.limits.down, fromRate: &x.limits.up, dropped: &x.stats.dropped,
		send: func(b []byte) error {
			_, err := target.Write(b)
			return target.check(err)
		}}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer r.queue.close()
		target.receive(r.queue)
	})
	err := r.run(ctx)
	target.Close()
	reader.Wait()
	return err
}

// receive queues what a target sends until its socket is closed or the target refuses.
func (t reached) receive(q *queue) {
	buf := make([]byte, maxPacket)
	for {
		n, err := t.Read(buf)
		if err != nil {
			t.check(err)
			return
		}
		q.put(buf[:n])
	}
}

// check makes a target's refusal the end of the flow: the client's next datagram begins a new one, at another target
// if there is one.
func (t reached) check(err error) error {
	if reach.IsRefused(err) {
		t.refused()
		return net.ErrClosed
	}
	return err
}

// CloseWrite passes a half-close on to a target that can.
func (t reached) CloseWrite() error { return closeWrite(t.Conn) }

// Reset ends the connection so that the target sees a failure.
func (t reached) Reset() error {
	splice.Abort(t.Conn)
	return nil
}

func closeWrite(c net.Conn) error {
	if c, ok := c.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
