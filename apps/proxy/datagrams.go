package proxy

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"ztm/apps"
	"ztm/apps/reach"
)

// The exit's side of a flow of datagrams: one flow is one UDP socket, connected to one target, so that only this
// target's answers come back. The flow ends when nothing has passed for a while, because UDP has no end of its own.

// datagramIdle is how long a flow of datagrams lives without any (RFC 4787 section 4.3: at least two minutes).
const datagramIdle = 2 * time.Minute

// serveDatagrams answers "udp". An error means that the flow was not accepted.
func (e *exit) serveDatagrams(ctx context.Context, f apps.Flow) error {
	target, g, err := e.dialFor(ctx, f, "udp")
	if err != nil {
		return err
	}
	defer target.Close()
	ctx, release := e.hold(ctx, g)
	defer release()
	conn, err := f.AcceptDatagrams()
	if err != nil {
		return err
	}
	relayDatagrams(ctx, conn, target)
	return nil
}

// relayDatagrams passes datagrams between a and b until one of them fails, ctx ends, or both were silent for
// [datagramIdle]. It closes both.
func relayDatagrams(ctx context.Context, a, b io.ReadWriteCloser) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{}) // closed when both connections are
	context.AfterFunc(ctx, func() {
		defer close(closed)
		a.Close()
		b.Close()
	})
	var passed atomic.Int64
	back := make(chan struct{}) // closed when the way back has ended
	go func() {
		defer close(back)
		defer cancel()
		passDatagrams(a, b, &passed)
	}()
	idle := make(chan struct{}) // closed when the watch has ended
	go func() {
		defer close(idle)
		defer cancel()
		waitSilent(ctx, &passed, datagramIdle)
	}()
	passDatagrams(b, a, &passed)
	cancel()
	<-back
	<-idle
	<-closed
}

// passDatagrams copies one datagram at a time. A datagram that cannot be sent is lost, as datagrams are: too long for the
// way, or refused by ICMP, which the next read or write reports. If dst is gone for good, its own direction ends and
// [relayDatagrams] closes src.
func passDatagrams(dst io.Writer, src io.Reader, passed *atomic.Int64) {
	buf := make([]byte, apps.MaxDatagram)
	for {
		n, err := src.Read(buf)
		if reach.IsRefused(err) {
			continue
		}
		if err != nil {
			return
		}
		passed.Add(1)
		dst.Write(buf[:n])
	}
}

// waitSilent returns when nothing was passed for so long, or for up to twice that, or when ctx ends.
func waitSilent(ctx context.Context, passed *atomic.Int64, idle time.Duration) {
	t := time.NewTicker(idle)
	defer t.Stop()
	for last := int64(-1); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			now := passed.Load()
			if now == last {
				return
			}
			last = now
		}
	}
}
