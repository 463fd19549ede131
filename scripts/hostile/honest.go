package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"ztm/scripts/bench/load"
)

// latency is what an honest pair sees.
type latency struct {
	Length     time.Duration `json:"length"`
	Ping       time.Duration `json:"ping"`       // median round trip on a tunnel connection that stands
	Path       waits         `json:"path"`       // a member that had none: TCP, TLS, relay, sealed session, ping
	Connection waits         `json:"connection"` // a new connection of the tunnel, to its first byte
}

// waits are the times of something that is done again and again.
type waits struct {
	Count  int           `json:"count"`
	Failed int           `json:"failed"`
	P50    time.Duration `json:"p50"`
	Max    time.Duration `json:"max"`
	Why    string        `json:"why,omitempty"` // the first failure

	all []time.Duration
}

func (w *waits) add(d time.Duration, err error) {
	w.Count++
	if err != nil {
		w.Failed++
		if w.Why == "" {
			w.Why = err.Error()
		}
		return
	}
	w.all = append(w.all, d)
}

func (w *waits) finish() {
	if len(w.all) == 0 {
		return
	}
	slices.Sort(w.all)
	w.P50, w.Max = w.all[len(w.all)/2], w.all[len(w.all)-1]
}

// every is the pause between two honest connections.
const every = 150 * time.Millisecond

// watch is the honest pair for so long; sample is called now and then. A failure of the pair is in the result.
func (m *mesh) watch(ctx context.Context, length time.Duration, sample func()) (latency, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	l := latency{Length: length}
	var wg sync.WaitGroup
	var pingErr error
	wg.Go(func() { l.Ping, pingErr = m.pings(ctx) })
	wg.Go(func() { repeat(ctx, &l.Path, m.honest.firstContact) })
	wg.Go(func() {
		repeat(ctx, &l.Connection, func(ctx context.Context) error {
			_, err := load.FirstByte(ctx, m.tunnel)
			return err
		})
	})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			if sample != nil {
				sample()
			}
		case <-ctx.Done():
		}
	}
	wg.Wait()
	if pingErr != nil {
		l.Connection.add(0, fmt.Errorf("a connection that stood broke: %w", pingErr))
	}
	l.Path.finish()
	l.Connection.finish()
	return l, nil
}

// repeat does something until ctx ends, each time within five seconds. What the end interrupts does not count.
func repeat(ctx context.Context, w *waits, f func(context.Context) error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		start := time.Now()
		err := f(once)
		took := time.Since(start)
		cancel()
		if end, _ := ctx.Deadline(); !time.Now().Before(end) || ctx.Err() != nil { // a dialler knows of the end before ctx does
			return
		}
		w.add(took, err)
	}
}

// pings is the median round trip of one connection of the tunnel until ctx ends, ten a second: it must not be a load of its own.
func (m *mesh) pings(ctx context.Context) (time.Duration, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", m.tunnel)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	head := make([]byte, 9)
	head[0] = 'P' // package load: echo every byte
	binary.BigEndian.PutUint64(head[1:], 0)
	if _, err := c.Write(head); err != nil {
		return 0, err
	}
	var all []time.Duration
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if len(all) == 0 {
				return 0, errors.New("no round trip ended")
			}
			slices.Sort(all)
			return all[len(all)/2], nil
		case <-tick.C:
		}
		start := time.Now()
		b := []byte{1}
		_, err := c.Write(b)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil && ctx.Err() == nil {
			return 0, err
		}
		if ctx.Err() == nil {
			all = append(all, time.Since(start))
		}
	}
}
