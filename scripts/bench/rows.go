package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ztm/scripts/bench/load"
	"ztm/scripts/process"
)

// group is rows that are measured together.
type group struct {
	name string
	f    func(*run, context.Context, []*path) error
}

func groups() []group {
	return []group{
		{"throughput", (*run).throughput}, {"connections", (*run).connections}, {"latency", (*run).latency}, {"stalled", (*run).stalled},
		{"far", (*run).far}, {"loss", (*run).loss}, {"firstbyte", (*run).firstByte}, {"cpu", (*run).cpu}, {"memory", (*run).memory},
		{"hub", (*run).hub}, {"idle", (*run).idle}, {"files", (*run).files},
	}
}

func groupNames() (names []string) {
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

// all measures every row that is wanted.
func (r *run) all(ctx context.Context, paths []*path) error {
	for _, g := range groups() {
		if len(r.rows) > 0 && !slices.Contains(r.rows, g.name) {
			continue
		}
		err := g.f(r, ctx, paths)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Printf("%s failed: %v\n", g.name, err)
			r.errs = append(r.errs, fmt.Errorf("%s: %w", g.name, err))
		}
	}
	return nil
}

func (r *run) scale(full, quick int64) int64 {
	if r.quick {
		return quick
	}
	return full
}

// length is how long a measurement takes that is of no fixed size.
func (r *run) length() time.Duration {
	return time.Duration(r.scale(int64(3*time.Second), int64(time.Second/2)))
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

func (r *run) throughput(ctx context.Context, paths []*path) error {
	total := r.scale(2<<30, 256<<20)
	for _, c := range []struct {
		name  string
		flows int
		up    bool
	}{{"throughput down, 1 flow", 1, false}, {"throughput up, 1 flow", 1, true}, {"throughput down, 4 flows", 4, false}, {"throughput up, 4 flows", 4, true}} {
		r.add(c.name, "MB/s", "1.0 of sealed hops", rounds(r.rounds, paths, func(p *path) (float64, error) {
			v, err := load.Throughput(ctx, p.address, c.flows, total, c.up)
			return v / 1e6, err
		}))
	}
	return nil
}

func (r *run) connections(ctx context.Context, paths []*path) error {
	r.add("new connections, 8 at a time", "1/s", "1.5 of plain hops", rounds(r.rounds, paths, func(p *path) (float64, error) {
		return load.Connections(ctx, p.address, 8, r.length())
	}))
	return nil
}

func (r *run) latency(ctx context.Context, paths []*path) error {
	for _, c := range []struct {
		name     string
		bulk     bool
		rate     uint64
		p50, p99 string
	}{
		{"ping-pong", false, 0, "1.1 of plain hops", ""},
		{"ping-pong beside a saturating flow", true, 0, "0.35 ms", "the hops'"},
		{"ping-pong beside a flow of 100 MB/s", true, 100e6, "", "1 ms"},
	} {
		first, p99 := newFigures(), newFigures()
		p50 := rounds(r.rounds, paths, func(p *path) (float64, error) {
			l, err := r.pingPong(ctx, p, c.bulk, c.rate)
			if err == nil {
				first.keep(p, milliseconds(l.First))
				p99.keep(p, milliseconds(l.P99))
			}
			return milliseconds(l.P50), err
		})
		if !c.bulk {
			r.add(c.name+", first 100 of a flow, p50", "ms", c.p50, first)
		}
		r.add(c.name+", p50", "ms", c.p50, p50)
		r.add(c.name+", p99", "ms", c.p99, p99)
	}
	return nil
}

// warmUp is what a bulk flow moves before the ping-pong beside it begins: enough for it to be known
// as bulk.
const warmUp = 300 * time.Millisecond

func (r *run) pingPong(ctx context.Context, p *path, bulk bool, rate uint64) (load.Latency, error) {
	if bulk {
		stop, err := load.Bulk(ctx, p.address, rate)
		if err != nil {
			return load.Latency{}, err
		}
		defer stop()
		if _, err := load.PingPong(ctx, p.address, warmUp); err != nil {
			return load.Latency{}, err
		}
	}
	return load.PingPong(ctx, p.address, r.length())
}

// filled is how long it takes until downloads that nobody reads have filled what can be filled: the
// kernel has megabytes for each at every hop.
const filled = 8 * time.Second

// stalled is 100 flows that go back and forth, alone and beside 40 downloads that nobody reads.
func (r *run) stalled(ctx context.Context, paths []*path) error {
	alone := rounds(r.rounds, paths, together(ctx))
	beside := newFigures()
	for _, p := range paths { // one after the other: filling takes long
		if err := r.besideStalled(ctx, p, beside); err != nil {
			beside.fail(p, err)
		}
	}
	r.add("100 ping-pongs, p50", "ms", "", alone)
	r.add("the same beside 40 stalled readers", "ms", "1.2 of the same alone", beside)
	return nil
}

func (r *run) besideStalled(ctx context.Context, p *path, beside figures) error {
	stop, err := load.Stalled(ctx, p.address, 40)
	if err != nil {
		return err
	}
	defer stop()
	if _, err := load.PingPong(ctx, p.address, filled); err != nil {
		return err
	}
	for range r.rounds {
		v, err := together(ctx)(p)
		if err != nil {
			return err
		}
		beside.keep(p, v)
	}
	return nil
}

// together is how long a round trip takes on each of 100 flows at the same time.
func together(ctx context.Context) func(*path) (float64, error) {
	return func(p *path) (float64, error) {
		d, err := load.Together(ctx, p.address, 100, 20)
		return milliseconds(d), err
	}
}

// cpu is what each process of a path uses: it shows where the rest of a throughput goes.
func (r *run) cpu(ctx context.Context, paths []*path) error {
	total := r.scale(4<<30, 512<<20)
	for _, c := range []struct {
		name string
		up   bool
	}{{"down", false}, {"up", true}} {
		r.cost("CPU per GB "+c.name, "s", paths, func(p *path) (float64, error) {
			_, err := load.Throughput(ctx, p.address, 1, total, c.up)
			return float64(total) / 1e9, err
		})
	}
	r.cost("CPU per connection", "ms", paths, func(p *path) (float64, error) {
		perSecond, err := load.Connections(ctx, p.address, 8, r.length())
		return perSecond * r.length().Seconds() / 1000, err
	})
	return nil
}

// roles of the processes of a path, in the order in which a connection meets them.
var roles = []string{"entrance", "hub", "exit"}

// cost adds rows for the processor time that each process of each path uses, in seconds for each
// unit of the work that f returns.
func (r *run) cost(name, unit string, paths []*path, f func(*path) (work float64, err error)) {
	user, all := map[string]figures{}, map[string]figures{}
	for _, role := range roles {
		user[role], all[role] = newFigures(), newFigures()
	}
	for _, p := range paths {
		before := map[string]process.CPU{}
		for role, pr := range p.procs {
			before[role] = pr.CPU()
		}
		work, err := f(p)
		for role, pr := range p.procs {
			if err != nil {
				user[role].fail(p, err)
				all[role].fail(p, err)
				continue
			}
			used := pr.CPU().Minus(before[role])
			user[role].keep(p, used.User.Seconds()/work)
			all[role].keep(p, used.All.Seconds()/work)
		}
	}
	for _, role := range roles {
		userGoal, allGoal := "", ""
		if role == "hub" && unit == "s" {
			userGoal, allGoal = "0.05 s", "1.1 of a plain hop"
		}
		r.add(name+", "+role+": user", unit, userGoal, user[role])
		r.add(name+", "+role+": all", unit, allGoal, all[role])
	}
}
