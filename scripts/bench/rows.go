package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ztm/scripts/bench/load"
	"ztm/scripts/process"
)

// all measures every row. Paths take turns within a row, so that a change of the machine's speed meets them all.
func (r *run) all(ctx context.Context, paths []*path) error {
	groups := []struct {
		name string
		f    func(context.Context, []*path) error
	}{
		{"throughput", r.throughput}, {"connections", r.connections}, {"latency", r.latency},
		{"cpu", r.cpu}, {"memory", r.memory}, {"firstbyte", r.firstByte}, {"far", r.far}, {"idle", r.idle},
	}
	for _, g := range groups {
		if !r.wants(g.name) {
			continue
		}
		err := g.f(ctx, paths)
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

func (r *run) length() time.Duration { return time.Duration(r.scale(5, 1)) * time.Second }

// figures are what a row has of each path: a value, or why there is none.
type figures struct {
	value  map[string]float64
	failed map[string]string
}

func newFigures() figures { return figures{map[string]float64{}, map[string]string{}} }

// ours are the figures of a row that only ztm has.
func ours(v float64) figures { return figures{value: map[string]float64{"ztm": v}} }

// fail takes a path out of a row.
func (f figures) fail(p *path, err error) {
	f.failed[p.name] = err.Error()
	delete(f.value, p.name)
}

// keep has the better of a value and what is there, unless the path has failed.
func (f figures) keep(p *path, better func(a, b float64) bool, v float64) {
	if _, failed := f.failed[p.name]; failed {
		return
	}
	if old, ok := f.value[p.name]; !ok || better(v, old) {
		f.value[p.name] = v
	}
}

// best runs f three times on each path, taking turns, and keeps the best of each: what disturbs a run only ever makes it worse. A path
// that fails is not tried again for this row, and the others go on.
func best(paths []*path, better func(a, b float64) bool, f func(*path) (float64, error)) figures {
	out := newFigures()
	for range 3 {
		for _, p := range paths {
			if out.failed[p.name] != "" {
				continue
			}
			if v, err := f(p); err != nil {
				out.fail(p, err)
			} else {
				out.keep(p, better, v)
			}
		}
	}
	return out
}

func more(a, b float64) bool { return a > b }
func less(a, b float64) bool { return a < b }

func (r *run) throughput(ctx context.Context, paths []*path) error {
	total := r.scale(2<<30, 256<<20)
	for _, c := range []struct {
		name  string
		flows int
		up    bool
	}{{"throughput down, 1 flow", 1, false}, {"throughput up, 1 flow", 1, true}, {"throughput down, 4 flows", 4, false}, {"throughput up, 4 flows", 4, true}} {
		r.add(c.name, "MB/s", "0.65 of the hops", best(paths, more, func(p *path) (float64, error) {
			v, err := load.Throughput(ctx, p.address, c.flows, total, c.up)
			return v / 1e6, err
		}))
	}
	return nil
}

func (r *run) connections(ctx context.Context, paths []*path) error {
	r.add("new connections, 8 at a time", "1/s", "1.5 of the hops", best(paths, more, func(p *path) (float64, error) {
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
		{"ping-pong", false, 0, "1.15 of the hops", ""},
		{"ping-pong beside a saturating flow", true, 0, "0.35 ms", "the hops'"},
		{"ping-pong beside a flow of 100 MB/s", true, 100e6, "", "1 ms"},
	} {
		p50, p99 := newFigures(), newFigures()
		for range 9 { // on which processors the system has put the processes, doubles a round trip or not
			for _, p := range paths {
				if p50.failed[p.name] != "" {
					continue
				}
				l, err := r.pingPong(ctx, p, c.bulk, c.rate, r.length()/3)
				if err != nil {
					p50.fail(p, err)
					p99.fail(p, err)
					continue
				}
				p50.keep(p, less, milliseconds(l.P50))
				p99.keep(p, less, milliseconds(l.P99))
			}
		}
		r.add(c.name+", p50", "ms", c.p50, p50)
		r.add(c.name+", p99", "ms", c.p99, p99)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// warmUp is what a bulk flow moves before the ping-pong beside it begins: enough for it to be known as bulk.
const warmUp = 300 * time.Millisecond

func (r *run) pingPong(ctx context.Context, p *path, bulk bool, rate uint64, length time.Duration) (load.Latency, error) {
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
	return load.PingPong(ctx, p.address, length)
}

// cpu is what each process of a path uses: it shows where the rest of a throughput goes.
func (r *run) cpu(ctx context.Context, paths []*path) error {
	total := r.scale(4<<30, 1<<30)
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

// cost adds rows for the processor time that each process of each path uses, in seconds for each unit of the work that f returns.
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
			user[role].value[p.name], all[role].value[p.name] = used.User.Seconds()/work, used.All.Seconds()/work
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

// roles of the processes of a path, in the order in which a connection meets them.
var roles = []string{"entrance", "hub", "exit"}

const mb = 1 << 20

func (r *run) memory(ctx context.Context, paths []*path) error {
	fresh, _, err := r.ztmPath(ctx, "fresh", 0, false)
	if err != nil {
		return err
	}
	show := func(name, goal string, p *path) {
		for _, role := range []string{"entrance", "exit", "hub"} {
			now, _ := p.procs[role].Memory()
			r.add(name+", "+role, "MB", goal, ours(float64(now)/mb))
		}
	}
	rest := time.NewTimer(40 * time.Second) // ztm notices within 30 s that it is at rest
	<-rest.C
	show("RSS at rest", "14 MB", fresh)
	if _, err := load.Throughput(ctx, fresh.address, 1, r.scale(4<<30, 512<<20), false); err != nil {
		return err
	}
	show("RSS after bulk", "40 MB, hub 30 MB", fresh)

	idle, _, err := r.ztmPath(ctx, "flows", 0, false)
	if err != nil {
		return err
	}
	if _, err := load.FirstByte(ctx, idle.address); err != nil {
		return err
	}
	const flows = 1000
	before := resident(idle)
	closeAll, err := load.Idle(ctx, idle.address, flows)
	if err != nil {
		return err
	}
	defer closeAll()
	show("RSS with 1,000 idle flows", "", idle)
	r.add("an idle flow, both agents", "KB", "64 KB", ours(float64(resident(idle)-before)/flows/1024))

	stalled, _, err := r.ztmPath(ctx, "stalled", 0, false)
	if err != nil {
		return err
	}
	stop, err := load.Stalled(ctx, stalled.address, 4)
	if err != nil {
		return err
	}
	defer stop()
	if _, err := load.PingPong(ctx, stalled.address, r.length()); err != nil {
		return err
	}
	for _, role := range []string{"entrance", "exit", "hub"} {
		_, peak := stalled.procs[role].Memory()
		r.add("peak RSS with 4 stalled readers, "+role, "MB", "flat", ours(float64(peak)/mb))
	}
	return nil
}

func resident(p *path) (total int64) {
	for _, role := range []string{"entrance", "exit"} {
		now, _ := p.procs[role].Memory()
		total += now
	}
	return total
}

// lineDelay is each way, on both sides of the hub: a round trip from end to end takes four times as long.
const lineDelay = 25 * time.Millisecond

// firstByte puts lineDelay between each agent and the hub.
func (r *run) firstByte(ctx context.Context, _ []*path) error {
	p, lines, err := r.ztmPath(ctx, "first", lineDelay, true)
	if err != nil {
		return err
	}
	for _, l := range lines {
		defer l.close()
	}
	cold, err := load.FirstByte(ctx, p.address)
	if err != nil {
		return err
	}
	r.add("first byte, cold session, 100 ms round trip", "ms", "", ours(milliseconds(cold)))
	if err := r.agent(ctx, p, "other", lines[1].address()); err != nil {
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
	var warm time.Duration
	for range 10 {
		d, err := load.FirstByte(ctx, p.address)
		if err != nil {
			return err
		}
		if warm == 0 || d < warm {
			warm = d
		}
	}
	r.add("connect and first byte, warm, 100 ms round trip", "ms", "120 ms: 1 round trip", ours(milliseconds(warm)))
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

// far is what windows and slow start make of a long way. "one connection" is ztm where a firewall lets each agent have a single connection
// with the hub, so that carriers are streams of the control session.
func (r *run) far(ctx context.Context, _ []*path) error {
	hops, lines, err := r.hopsPath(ctx, plainHops, false, lineDelay)
	if err != nil {
		return err
	}
	wide, wideLines, err := r.ztmPath(ctx, "far", lineDelay, true)
	if err != nil {
		return err
	}
	narrow, narrowLines, err := r.ztmPath(ctx, "narrow", lineDelay, true)
	if err != nil {
		return err
	}
	for _, l := range slices.Concat(lines, wideLines, narrowLines) {
		defer l.close()
	}
	for _, l := range narrowLines {
		l.only.Store(true)
	}
	wide.name, narrow.name = "ztm", "one connection"
	paths := []*path{hops, wide, narrow}
	for _, p := range paths {
		if err := r.works(ctx, p); err != nil {
			return err
		}
	}
	const answer = 4 << 20
	r.add("an answer of 4 MB, 100 ms round trip", "ms", "", best(paths, less, func(p *path) (float64, error) {
		v, err := load.Throughput(ctx, p.address, 1, answer, false)
		return answer / v * 1000, err
	}))
	for _, c := range []struct {
		name string
		up   bool
	}{{"down", false}, {"up", true}} {
		r.add("throughput "+c.name+", 1 flow, 100 ms round trip", "MB/s", "", best(paths, more, func(p *path) (float64, error) {
			v, err := load.Throughput(ctx, p.address, 1, r.scale(256<<20, 32<<20), c.up)
			return v / 1e6, err
		}))
	}
	return nil
}

// idle counts what an agent sends and receives at rest.
func (r *run) idle(ctx context.Context, _ []*path) error {
	_, lines, err := r.ztmPath(ctx, "idle", 0, true)
	if err != nil {
		return err
	}
	for _, l := range lines {
		defer l.close()
	}
	length := time.Duration(r.scale(180, 60)) * time.Second
	timer := time.NewTimer(length / 6) // until what the start caused is over
	<-timer.C
	before := lines[0].bytes.Load()
	timer.Reset(length)
	<-timer.C
	perHour := float64(lines[0].bytes.Load()-before) * float64(time.Hour/length)
	// Payload of TCP; each segment has 52 bytes of headers, and so has its acknowledgement.
	r.add("idle payload of a control session", "B/h", "41,600 B/h is 1 MB a day", ours(perHour))
	return nil
}
