// Package splice joins two connections until both directions have ended.
//
// It is where a plain end and a sealed end of a flow meet, and where the hub joins the two legs of
// a relayed path. The way of the bytes:
//
//	           Join
//	   a  -- transfer(b, a) -->  b      end of a: CloseWrite on b
//	   a  <-- transfer(a, b) --  b      end of b: CloseWrite on a
//
//	1. transfer moves bytes until the source ends: inside the kernel where both ends are sockets it can splice,
//	   by the connection's own WriteTo or ReadFrom where it has one, through a pooled buffer otherwise.
//	2. The end of one direction is passed on (half-close) and leaves the other direction alone. Where the other has ended before, the
//	   close of a TCP connection says the same.
//	3. A failure of one direction, or the end of the context, resets both connections, so that no peer mistakes
//	   a broken transfer for a finished one.
//
// A reader that stops stops the writer: nothing is queued here beyond one buffer (or one pipe) for
// each direction. The package sets no deadlines and keeps no idle timer: who joins connections
// knows when they have had their time.
package splice

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// Join copies a to b and b to a until both directions have ended, and returns how many bytes b took
// from a and a took from b. The counts are right after a failure, too.
//
// The end of one direction becomes CloseWrite on the other connection; a connection without
// CloseWrite stays open until the other direction has ended as well. When either direction fails,
// both connections are reset (see [Abort]) and Join returns the first failure. When ctx ends, both
// are reset and Join returns the cause of ctx. If both directions ended cleanly, err is nil. Join
// closes a and b, and every goroutine it started has ended when it returns.
//
// Most flows wait in here, and what a goroutine waits on for hours decides how much stack it keeps.
// So what begins and ends is apart, and what is to be known meanwhile is not on the stack.
func Join(ctx context.Context, a, b net.Conn) (aToB, bToA int64, err error) {
	j := begin(ctx, a, b)
	j.moved, j.own = transfer(j.dst, j.src)
	return j.end()
}

// joint is one run of Join.
type joint struct {
	a, b     net.Conn
	dst, src net.Conn // of the direction that Join carries itself
	toA      bool     // dst is a
	moved    int64    // in that
	own      error    // of that
	other    int64    // moved in the other direction; written before back is done
	back     sync.WaitGroup
	stop     func() bool
	cut      sync.WaitGroup // until the end of the context was passed on, if it has ended

	ended  atomic.Bool // one direction has ended without a failure
	failed sync.Once
	err    error // written inside failed, read after both directions have ended
}

// begin has one direction carried, by a goroutine if it needs one.
func begin(ctx context.Context, a, b net.Conn) *joint {
	j := &joint{a: a, b: b, dst: b, src: a}
	j.cut.Add(1)
	j.stop = context.AfterFunc(ctx, func() {
		defer j.cut.Done()
		j.fail(context.Cause(ctx))
	})
	if d, ok := a.(deliverer); ok {
		j.dst, j.src, j.toA = a, b, true
		j.deliver(b, d)
	} else if d, ok := b.(deliverer); ok {
		j.deliver(a, d)
	} else {
		j.back.Go(func() {
			var err error
			j.other, err = transfer(a, b)
			j.passOn(a, err)
		})
	}
	return j
}

// end passes the end of the own direction on and returns when all has ended.
func (j *joint) end() (aToB, bToA int64, err error) {
	j.passOn(j.dst, j.own)
	j.back.Wait()
	if !j.stop() {
		j.cut.Wait()
	}
	// Both ends were told how this ended, by CloseWrite or by a reset: an error of Close has
	// nothing to add.
	j.a.Close()
	j.b.Close()
	if j.toA {
		return j.other, j.moved, j.err
	}
	return j.moved, j.other, j.err
}

// passOn passes the end of a direction on, or its failure.
func (j *joint) passOn(dst net.Conn, err error) {
	if err == nil && !(j.ended.Swap(true) && EndsByClose(dst)) {
		err = CloseWrite(dst)
	}
	if err != nil {
		j.fail(err)
	}
}

// deliver carries the direction of a source that needs no goroutine. It returns at once.
func (j *joint) deliver(dst net.Conn, src deliverer) {
	j.back.Add(1)
	src.Deliver(dst, func(n int64, err error) {
		j.other = n
		j.passOn(dst, err)
		j.back.Done()
	})
}

// fail keeps the first failure and resets both connections, which ends the other direction. What
// the other direction then complains about is a consequence and is dropped.
func (j *joint) fail(err error) {
	j.failed.Do(func() {
		j.err = err
		Abort(j.a)
		Abort(j.b)
	})
}

// EndsByClose reports whether closing c tells its peer no less than CloseWrite would, once all that
// the peer has said was read: so it is with TCP. A wrapper has a method of this name.
func EndsByClose(c net.Conn) bool {
	switch c := c.(type) {
	case interface{ EndsByClose() bool }:
		return c.EndsByClose()
	case interface{ WritesTo() net.Conn }:
		return EndsByClose(c.WritesTo())
	case *net.TCPConn:
		return true
	}
	return false
}

// CloseWrite tells the peer of c that no more bytes follow; it may go on to write. A connection that
// cannot tell it stays as it is: its owner closes it at the end.
func CloseWrite(c net.Conn) error {
	w, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	// "Not connected" means that the peer has reset the connection after it ended its own
	// direction: there is nobody left to tell. If it had not ended its direction, the read of that
	// direction fails and says so.
	if err := w.CloseWrite(); err != nil && !errors.Is(err, errNotConnected) {
		return err
	}
	return nil
}

// Abort ends c in such a way that its peer sees a failure and not an end, as far as c can: by its
// own Reset method if it has one, by a TCP reset, or by closing it. A TLS connection is cut below
// TLS, because its Close would tell the peer that all is well. Abort may be called at any time from
// any goroutine; c must still be closed by its owner unless it is one of the standard library's
// own.
func Abort(c net.Conn) {
	switch c := c.(type) {
	case interface{ Reset() error }:
		c.Reset()
	case *net.TCPConn:
		c.SetLinger(0)
		c.Close()
	case interface{ NetConn() net.Conn }:
		Abort(c.NetConn())
	default:
		c.Close()
	}
}
