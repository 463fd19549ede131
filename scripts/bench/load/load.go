// Package load makes and measures traffic. It knows TCP and nothing of what carries it: the same
// client and server measure a direct connection, plain hops and any tunnel.
//
// A connection begins with a request of nine bytes: a kind and a number.
//
//	'P' 0        echo every byte
//	'D' n        send n bytes; n = 0: until the client closes
//	'R' n        send n bytes a second until the client closes
//	'F' n        read the name of a file in n bytes, from the directory of the server on, and send what is in it
//	'U' 0        take bytes until the end, then send how many and for how long (nanoseconds), 8 bytes each
package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const block = 256 << 10 // bytes of one read or write

// Serve answers connections until the listener is closed.
func Serve(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() { // ends with its connection
			defer c.Close()
			serve(c.(*net.TCPConn))
		}()
	}
}

func serve(c *net.TCPConn) {
	var req [9]byte
	if _, err := io.ReadFull(c, req[:]); err != nil {
		return
	}
	n := binary.BigEndian.Uint64(req[1:])
	switch req[0] {
	case 'P':
		buf := make([]byte, 4096)
		for {
			m, err := c.Read(buf)
			if err != nil {
				return
			}
			if _, err := c.Write(buf[:m]); err != nil {
				return
			}
		}
	case 'D':
		send(c, n)
	case 'R':
		pace(c, n)
	case 'F':
		sendFile(c, n)
	case 'U':
		got, took := receive(c)
		var out [16]byte
		binary.BigEndian.PutUint64(out[:], uint64(got))
		binary.BigEndian.PutUint64(out[8:], uint64(took))
		c.Write(out[:])
	}
}

func send(c net.Conn, n uint64) {
	buf := make([]byte, block)
	for sent := uint64(0); n == 0 || sent < n; {
		b := buf
		if n > 0 {
			b = buf[:min(uint64(len(buf)), n-sent)]
		}
		m, err := c.Write(b)
		sent += uint64(m)
		if err != nil {
			return
		}
	}
}

// pace sends in slices of two milliseconds.
func pace(c net.Conn, perSecond uint64) {
	const slice = 2 * time.Millisecond
	buf := make([]byte, perSecond/uint64(time.Second/slice))
	tick := time.NewTicker(slice)
	defer tick.Stop()
	for range tick.C {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// receive counts from the first byte to the last.
func receive(c net.Conn) (n int64, took time.Duration) {
	buf := make([]byte, block)
	var first time.Time
	for {
		m, err := c.Read(buf)
		if first.IsZero() {
			first = time.Now()
		}
		n += int64(m)
		if err != nil {
			return n, time.Since(first)
		}
	}
}

func dial(ctx context.Context, address string, kind byte, n uint64) (*net.TCPConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	var req [9]byte
	req[0] = kind
	binary.BigEndian.PutUint64(req[1:], n)
	if _, err := c.Write(req[:]); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Throughput moves total bytes over so many connections and returns bytes a second at the receiver.
func Throughput(ctx context.Context, address string, flows int, total int64, up bool) (float64, error) {
	each := total / int64(flows)
	start := time.Now()
	var moved atomic.Int64
	err := parallel(flows, func() error {
		n, err := transfer(ctx, address, each, up)
		moved.Add(n)
		if err == nil && n != each {
			err = fmt.Errorf("%d bytes of %d arrived", n, each)
		}
		return err
	})
	return float64(moved.Load()) / time.Since(start).Seconds(), err
}

func transfer(ctx context.Context, address string, n int64, up bool) (int64, error) {
	if !up {
		c, err := dial(ctx, address, 'D', uint64(n))
		if err != nil {
			return 0, err
		}
		defer c.Close()
		got, _ := receive(c)
		return got, nil
	}
	c, err := dial(ctx, address, 'U', 0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	send(c, uint64(n))
	c.CloseWrite()
	var out [16]byte
	if _, err := io.ReadFull(c, out[:]); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(out[:])), nil
}

// parallel runs f so many times at once and returns the errors.
func parallel(n int, f func() error) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Connections opens, uses for one byte each way, and closes connections for so long, workers at a
// time, and returns how many a second.
func Connections(ctx context.Context, address string, workers int, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var done atomic.Int64
	start := time.Now()
	err := parallel(workers, func() error {
		for ctx.Err() == nil {
			if err := one(ctx, address); err != nil {
				var late net.Error
				if ctx.Err() != nil || errors.As(err, &late) && late.Timeout() { // the dialler may know of the end first
					return nil
				}
				return err
			}
			done.Add(1)
		}
		return nil
	})
	return float64(done.Load()) / time.Since(start).Seconds(), err
}

func one(ctx context.Context, address string) error {
	c, err := dial(ctx, address, 'P', 0)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = echo(c)
	return err
}

func echo(c net.Conn) (time.Duration, error) {
	start := time.Now()
	if _, err := c.Write([]byte{1}); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return time.Since(start), err
}

// FirstByte is how long a new connection takes to its first byte back.
func FirstByte(ctx context.Context, address string) (time.Duration, error) {
	start := time.Now()
	err := one(ctx, address)
	return time.Since(start), err
}

// Latency is what a row of round trips comes to.
type Latency struct {
	First time.Duration // p50 of the first 100
	P50   time.Duration
	P99   time.Duration
}

// PingPong sends one byte back and forth on one connection for so long.
func PingPong(ctx context.Context, address string, length time.Duration) (Latency, error) {
	c, err := dial(ctx, address, 'P', 0)
	if err != nil {
		return Latency{}, err
	}
	defer c.Close()
	var all []time.Duration
	for end := time.Now().Add(length); len(all) == 0 || time.Now().Before(end); {
		d, err := echo(c)
		if err != nil {
			return Latency{}, err
		}
		all = append(all, d)
	}
	first := slices.Sorted(slices.Values(all[:min(len(all), 100)]))
	slices.Sort(all)
	return Latency{first[len(first)/2], all[len(all)/2], all[len(all)*99/100]}, nil
}

// Together sends one byte back and forth on so many connections at the same time, so often on each,
// and returns the median.
func Together(ctx context.Context, address string, flows, trips int) (time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration // guarded by mu
	err := parallel(flows, func() error {
		c, err := dial(ctx, address, 'P', 0)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		for range trips {
			d, err := echo(c)
			if err != nil {
				return err
			}
			mu.Lock()
			all = append(all, d)
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// Answers fetches so many answers of a size, each by a connection of its own, so many at a time.
func Answers(ctx context.Context, address string, n, workers int, size int64) error {
	var left atomic.Int64
	left.Store(int64(n))
	return parallel(workers, func() error {
		for left.Add(-1) >= 0 {
			got, err := transfer(ctx, address, size, false)
			if err == nil && got != size {
				err = fmt.Errorf("%d bytes of %d arrived", got, size)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Bulk downloads until stop is called: as fast as it goes, or so many bytes a second.
func Bulk(ctx context.Context, address string, perSecond uint64) (stop func() (bytes int64), err error) {
	kind := byte('D')
	if perSecond > 0 {
		kind = 'R'
	}
	c, err := dial(ctx, address, kind, perSecond)
	if err != nil {
		return nil, err
	}
	done := make(chan int64, 1)
	go func() {
		n, _ := receive(c)
		done <- n
	}()
	return func() int64 { c.Close(); return <-done }, nil
}

// Idle opens so many connections and leaves them alone.
func Idle(ctx context.Context, address string, n int) (closeAll func(), err error) {
	return hold(n, func() (net.Conn, error) {
		c, err := dial(ctx, address, 'P', 0)
		if err == nil {
			_, err = echo(c)
		}
		return c, err
	})
}

// Stalled opens downloads whose client never reads.
func Stalled(ctx context.Context, address string, n int) (closeAll func(), err error) {
	return hold(n, func() (net.Conn, error) { return dial(ctx, address, 'D', 0) })
}

// hold opens so many connections.
func hold(n int, open func() (net.Conn, error)) (closeAll func(), err error) {
	var conns []net.Conn
	closeAll = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for range n {
		c, err := open()
		if err != nil {
			closeAll()
			return nil, err
		}
		conns = append(conns, c)
	}
	return closeAll, nil
}
