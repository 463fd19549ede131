package main

import (
	"context"
	"slices"
	"time"

	"ztm/scripts/bench/load"
	"ztm/scripts/process"
)

// lineDelay is each way, on both sides of the hub: a round trip from end to end takes four times as
// long.
const lineDelay = 25 * time.Millisecond

// away makes paths with a line between each agent and the hub. In the last ones a firewall lets
// each agent have a single connection with the hub, so that what goes between agents is a stream of
// the control session.
func (r *run) away(ctx context.Context, l line) ([]*path, error) {
	hops, err := r.hopsPath(ctx, plainHops, false, l)
	if err != nil {
		return nil, err
	}
	wide, err := r.ztmPaths(ctx, ztm, l, false)
	if err != nil {
		return nil, err
	}
	narrow, err := r.ztmPaths(ctx, single, l, true)
	if err != nil {
		return nil, err
	}
	paths := append([]*path{hops}, slices.Concat(wide, narrow)...)
	for _, p := range paths {
		if err := r.works(ctx, p); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// far is what windows and slow start make of a long way.
func (r *run) far(ctx context.Context, _ []*path) error {
	paths, err := r.away(ctx, line{delay: lineDelay})
	if err != nil {
		return err
	}
	defer closeLines(paths)
	r.add("the first answer of 4 MB in a session, 100 ms round trip", "ms", "1.3 of plain hops", rounds(1, paths, answer(ctx)))
	r.add("an answer of 4 MB, 100 ms round trip", "ms", "1.1 of plain hops", rounds(r.rounds, paths, answer(ctx)))
	r.add("a page of 100 answers of 20 KB, 6 at a time, 100 ms round trip", "ms", "0.9 of plain hops", rounds(r.rounds, paths, page(ctx)))
	for _, c := range []struct {
		name string
		up   bool
	}{{"down", false}, {"up", true}} {
		r.add("throughput "+c.name+", 1 flow, 100 ms round trip", "MB/s", "0.6 of plain hops", rounds(r.rounds, paths, func(p *path) (float64, error) {
			v, err := load.Throughput(ctx, p.address, 1, r.scale(512<<20, 128<<20), c.up)
			return v / 1e6, err
		}))
	}
	return nil
}

// loss is the same where packets are lost.
func (r *run) loss(ctx context.Context, _ []*path) error {
	paths, err := r.away(ctx, line{delay: lineDelay, loss: 0.01})
	if err != nil {
		return err
	}
	defer closeLines(paths)
	r.add("an answer of 4 MB, 100 ms round trip, 1 % loss", "ms", "", rounds(r.rounds, paths, answer(ctx)))
	r.add("a page of 100 answers of 20 KB, 6 at a time, 100 ms, 1 % loss", "ms", "", rounds(r.rounds, paths, page(ctx)))
	r.add("16 ping-pongs, 100 ms, 1 % loss, p50", "ms", "", rounds(r.rounds, paths, func(p *path) (float64, error) {
		d, err := load.Together(ctx, p.address, 16, 10)
		return milliseconds(d), err
	}))
	return nil
}

func answer(ctx context.Context) func(*path) (float64, error) {
	const size = 4 << 20
	return func(p *path) (float64, error) {
		v, err := load.Throughput(ctx, p.address, 1, size, false)
		return size / v * 1000, err
	}
}

// page is what a browser does: each answer has a connection of its own.
func page(ctx context.Context) func(*path) (float64, error) {
	return func(p *path) (float64, error) {
		start := time.Now()
		err := load.Answers(ctx, p.address, 100, 6, 20<<10)
		return milliseconds(time.Since(start)), err
	}
}

// firstByte is what the opening of sessions and flows takes on a long way.
func (r *run) firstByte(ctx context.Context, _ []*path) error {
	p, err := r.ztmPath(ctx, ztm, r.ztm, line{delay: lineDelay})
	if err != nil {
		return err
	}
	defer closeLines([]*path{p})
	cold, err := load.FirstByte(ctx, p.address)
	if err != nil {
		return err
	}
	r.add("first byte, cold session, 100 ms round trip", "ms", "", ours(milliseconds(cold)))
	if err := r.agent(ctx, p, "other", p.lines[1].address()); err != nil {
		return err
	}
	other := process.FreeAddress()
	if err := r.tunnel(ctx, p, "other", "other", other); err != nil {
		return err
	}
	if cold, err = load.FirstByte(ctx, other); err != nil {
		return err
	}
	r.add("first byte, cold session of an entrance in use", "ms", "", ours(milliseconds(cold)))
	r.add("connect and first byte, warm, 100 ms round trip", "ms", "120 ms: 1 round trip", rounds(10, []*path{p}, func(p *path) (float64, error) {
		d, err := load.FirstByte(ctx, p.address)
		return milliseconds(d), err
	}))
	return r.firstByteBeside(ctx, p)
}

// firstByteBeside opens flows one after the other while another one turns bulk: it is offloaded.
func (r *run) firstByteBeside(ctx context.Context, p *path) error {
	stop, err := load.Bulk(ctx, p.address, 0)
	if err != nil {
		return err
	}
	defer stop()
	var slowest time.Duration
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		d, err := load.FirstByte(ctx, p.address)
		if err != nil {
			return err
		}
		slowest = max(slowest, d)
	}
	r.add("the slowest first byte while a flow turns bulk", "ms", "no wait for a session", ours(milliseconds(slowest)))
	return nil
}
