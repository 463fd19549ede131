// Package relay passes datagrams between two connections until they are silent.
package relay

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"ztm/apps/reach"
	"ztm/apps/udp"
)

// datagramIdle is how long a flow of datagrams lives without any (RFC 4787 section 4.3: at least two minutes).
const datagramIdle = 2 * time.Minute

// Datagrams passes datagrams between a and b until one of them fails, ctx ends, or both were silent for
// [datagramIdle]. It closes both.
func Datagrams(ctx context.Context, a, b io.ReadWriteCloser) {
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
		WaitSilent(ctx, &passed, datagramIdle)
	}()
	passDatagrams(b, a, &passed)
	cancel()
	<-back
	<-idle
	<-closed
}

// passDatagrams copies one datagram at a time. A datagram that cannot be sent is lost, as datagrams are: too long for the
// way, or refused by ICMP, which the next read or write reports. If dst is gone for good, its own direction ends and
// [Datagrams] closes src.
func passDatagrams(dst io.Writer, src io.Reader, passed *atomic.Int64) {
	in := udp.NewReader(src)
	for {
		err := in.Read(func(b []byte) {
			passed.Add(1)
			dst.Write(b)
		})
		if err != nil && !reach.IsRefused(err) {
			return
		}
	}
}

// WaitSilent returns when nothing was passed for so long, or for up to twice that, or when ctx ends.
func WaitSilent(ctx context.Context, passed *atomic.Int64, idle time.Duration) {
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
