package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"ztm/scripts/bench/load"
	"ztm/tunnel/pause"
)

const mb = 1 << 20

// memory is what the processes of ztm hold, each time those of a path that has done nothing else.
func (r *run) memory(ctx context.Context, _ []*path) error {
	for _, f := range []func(context.Context, *path) error{r.bulkMemory, r.flowMemory, r.stalledMemory} {
		p, err := r.ztmPath(ctx, ztm, r.ztm, line{})
		if err != nil {
			return err
		}
		if err := f(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) show(name, goal string, p *path) {
	for _, role := range roles {
		now, _ := p.procs[role].Memory()
		r.add(name+", "+role, "MB", goal, ours(float64(now)/mb))
	}
}

func (r *run) bulkMemory(ctx context.Context, p *path) error {
	rest := time.NewTimer(40 * time.Second) // ztm notices within 30 s that it is at rest
	<-rest.C
	r.show("RSS at rest", "14 MB", p)
	if _, err := load.Throughput(ctx, p.address, 1, r.scale(4<<30, 512<<20), false); err != nil {
		return err
	}
	r.show("RSS after bulk", "40 MB, hub 30 MB", p)
	return nil
}

func (r *run) flowMemory(ctx context.Context, p *path) error {
	if _, err := load.FirstByte(ctx, p.address); err != nil {
		return err
	}
	const flows = 1000
	before := resident(p)
	closeAll, err := load.Idle(ctx, p.address, flows)
	if err != nil {
		return err
	}
	defer closeAll()
	r.show("RSS with 1,000 idle flows", "", p)
	r.add("an idle flow, both agents", "KB", "24 KB", ours(float64(resident(p)-before)/flows/1024))
	return nil
}

func resident(p *path) (total int64) {
	for _, role := range []string{"entrance", "exit"} {
		now, _ := p.procs[role].Memory()
		total += now
	}
	return total
}

func (r *run) stalledMemory(ctx context.Context, p *path) error {
	stop, err := load.Stalled(ctx, p.address, 40)
	if err != nil {
		return err
	}
	defer stop()
	if _, err := load.PingPong(ctx, p.address, r.length()); err != nil {
		return err
	}
	for _, role := range roles {
		_, peak := p.procs[role].Memory()
		r.add("peak RSS with 40 stalled readers, "+role, "MB", "flat", ours(float64(peak)/mb))
	}
	return nil
}

// hub is what an agent at rest costs its hub: scripts/scale has agents by the thousand.
func (r *run) hub(ctx context.Context, _ []*path) error {
	agents, file := fmt.Sprint(r.scale(10_000, 1000)), filepath.Join(r.Dir, "scale.json")
	c := exec.CommandContext(ctx, "go", "run", "./scripts/scale", "-n", agents, "-rest", "5s", "-ztm", r.ztm, "-json", file)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var rows []struct {
		Memory float64 `json:"hubBytesPerAgent"`
		Rest   float64 `json:"hubBytesPerAgentAtRest"`
	}
	if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	for _, w := range rows {
		r.add("hub memory per idle agent, of "+agents, "KB", "35 KB", ours(w.Memory/1e3))
		r.add("the same at rest", "KB", "35 KB", ours(w.Rest/1e3))
	}
	return nil
}

// idle counts what an agent sends and receives at rest.
func (r *run) idle(ctx context.Context, _ []*path) error {
	p, err := r.ztmPath(ctx, ztm, r.ztm, line{relayed: true})
	if err != nil {
		return err
	}
	defer closeLines([]*path{p})
	length := time.Duration(r.scale(180, 45)) * time.Second
	if !pause.For(ctx, length/6) { // until what the start caused is over
		return ctx.Err()
	}
	before := p.lines[0].bytes.Load()
	if !pause.For(ctx, length) {
		return ctx.Err()
	}
	perHour := float64(p.lines[0].bytes.Load()-before) * float64(time.Hour/length)
	// Payload of TCP; each segment has 52 bytes of headers, and so has its acknowledgement.
	r.add("idle payload of a control session", "B/h", "41,600 B/h is 1 MB a day", ours(perHour))
	return nil
}
