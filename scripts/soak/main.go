// Command soak runs a mixed load through a tunnel while one of its two targets is killed and started again, and says whether
// anything was lost that was not on that target.
//
//	scripts/soak/run [-for 60s] [-flows 200] [-ztm BINARY]
//	scripts/soak/run -life [-for 15m]: instead does and undoes all that a mesh can do, and says what grows; see life.go
//
// The hub, two agents and both targets are processes of their own:
//
//	this program: flows -> agent, inbound -> hub -> agent, outbound -> target a, target b (killed at a third, back at half)
//
// All that is sent can be told apart and is checked at both ends: requests by the hash of each, streams byte by byte and by the
// hash of the whole, datagrams by number and hash. It exits with status 1 if a flow that was not on the killed target lost,
// changed or reordered anything, or if new flows failed or did not find the target that came back. A datagram may be dropped on
// a machine that has too much to do, if the tunnel or the system counts it.
package main

import (
	"context"
	"flag"
	"os"
	"sync"
	"time"
	"ztm/scripts/process"
)

func main() { os.Exit(process.Main("soak", command)) }

func command(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "app" {
		return serveApp(ctx)
	}
	if len(args) == 2 && args[0] == "target" {
		return serveTarget(ctx, args[1])
	}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	length := flags.Duration("for", time.Minute, "so long")
	flows := flags.Int("flows", 200, "how many flows: two in five send requests, one in ten streams, three in ten idle, one in five sends datagrams")
	binary := flags.String("ztm", "", "the ztm `BINARY` to test; empty: build it")
	long := flags.Bool("life", false, "do and undo everything again and again, and see what grows")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *long {
		return process.InScratch(ctx, "soak", *binary, func(dir, ztm string) error { return live(ctx, dir, ztm, *length) })
	}
	return process.InScratch(ctx, "soak", *binary, func(dir, ztm string) error { return soak(ctx, dir, ztm, *flows, *length) })
}

// soak runs the load through a mesh whose data are below dir, and prints what came of it.
func soak(ctx context.Context, dir, ztm string, flows int, length time.Duration) error {
	m := &mesh{Group: process.Group{Dir: dir}, ztm: ztm}
	defer m.End(timeout)
	if err := m.prepare(ctx); err != nil {
		return err
	}
	before := overflows()
	r, err := m.load(ctx, flows, length)
	if err != nil {
		return err
	}
	r.overflows = overflows() - before
	if r.dropped, err = m.dropped(ctx); err != nil {
		return err
	}
	r.memory = m.memory()
	r.broken = m.stop()
	r.print(os.Stdout)
	return r.verdict()
}

// load runs the flows and the accident. It returns when all flows have ended.
func (m *mesh) load(ctx context.Context, flows int, length time.Duration) (*report, error) {
	r := &report{flows: flows, length: length, first: uint64(m.targets[0].Pid()), killed: uint64(m.targets[1].Pid())}
	stop := make(chan struct{}) // closed when the flows are to end
	var running sync.WaitGroup
	for i := range flows {
		f := &flow{kind: kindOf(i), seed: uint64(i)}
		r.results = append(r.results, f)
		running.Go(func() { f.run(m, stop) })
	}
	news := &newcomers{mesh: m}
	running.Go(func() { news.run(stop) })

	begin := time.Now()
	at := func(d time.Duration) error {
		t := time.NewTimer(time.Until(begin.Add(d)))
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := at(length / 3)
	if err == nil {
		r.killedAt = time.Now()
		m.targets[1].Kill()
		err = at(length / 2)
	}
	if err == nil {
		r.startedAt = time.Now()
		err = m.startTarget(ctx, 1)
		r.backAt, r.reborn = time.Now(), uint64(m.targets[1].Pid())
	}
	if err == nil {
		err = at(length)
	}
	close(stop)
	running.Wait()
	r.newcomers = news.list
	return r, err
}
