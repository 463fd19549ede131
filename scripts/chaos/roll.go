//go:build linux

package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel/pause"
)

// drained is how long a hub may take to end: what it gives its flows, and a little more.
const drained = 45 * time.Second

// roll restarts all hubs, one after the other, as somebody does who has a new version. It is no accident: new flows may fail for no
// longer than after the loss of a hub, and only as a hub begins to end, or has ended. Settle looks that agents are spread again.
func (r *rig) roll(ctx context.Context) error {
	for _, h := range r.hubs {
		if !pause.For(ctx, r.slack(healed)) { // agents come back from the one before
			return ctx.Err()
		}
		if err := r.restart(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// restart ends a hub, which has its agents go elsewhere first, and starts it again.
func (r *rig) restart(ctx context.Context, h *node) error {
	fmt.Printf("chaos: %v: restart %s\n", time.Now().Format(time.TimeOnly), h.name)
	start, old := time.Now(), h.proc
	r.world.touch(r.slack(lossGrace), h.name)
	if err := old.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := process.Until(ctx, h.name+" ends", r.slack(drained), func() error {
		r.world.drains(h.name)
		if old.Running() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	r.log.check("I11", err == nil, "%v after it was asked to", err)
	if err != nil {
		return err
	}
	r.world.set(h.name, true)
	r.world.touch(r.slack(lossGrace), h.name)
	if err := r.start(h); err != nil {
		return err
	}
	err = process.Until(ctx, h.name, timeout, func() error { return answers(r.address(h, hubPort)) })
	r.world.touch(r.slack(lossGrace), h.name)
	r.log.add("restart", h.name, start, ok, "")
	return err
}
