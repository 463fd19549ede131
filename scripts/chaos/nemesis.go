//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"ztm/tunnel/pause"
)

// accident breaks something and returns how it is mended, or nil if there is nothing to break. The names are those of the places that are touched.
type accident func(r *rig, rnd *rand.Rand) (what string, touched []string, mend func() error)

// accidents are the ways in which things are broken.
var accidents = map[string]accident{
	"kill-hub":    func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.killing(choose(rnd, r.hubs)) },
	"freeze-hub":  func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.freezing(choose(rnd, r.hubs)) },
	"kill-etcd":   func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.killing(choose(rnd, r.etcds)) },
	"freeze-etcd": func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.freezing(choose(rnd, r.etcds)) },
	"kill-agent": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.killing(&choose(rnd, r.agents[2:]).node)
	},
	"freeze-agent": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.freezing(&choose(rnd, r.agents[2:]).node)
	},
	"part-hub-hubs": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.parting(choose(rnd, r.hubs), names(r.hubs))
	},
	"part-hub-agents": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		half := r.agents[:len(r.agents)/2]
		if rnd.IntN(2) == 0 {
			half = r.agents[len(r.agents)/2:]
		}
		return r.parting(choose(rnd, r.hubs), agentNames(half))
	},
	"part-hub-etcds": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.parting(choose(rnd, r.hubs), names(r.etcds))
	},
	"part-etcd": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.parting(choose(rnd, r.etcds), names(r.etcds))
	},
	"deafen-hub": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.halving("deafen ", choose(rnd, r.hubs), func(change cable, h, other string) error { return change(other, h) })
	},
	"mute-hub": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.halving("mute ", choose(rnd, r.hubs), func(change cable, h, other string) error { return change(h, other) })
	},
	"fill-hub":    func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.filling(choose(rnd, r.hubs)) },
	"fill-etcd":   func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.filling(choose(rnd, r.etcds)) },
	"starve-hub":  func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.starving(choose(rnd, r.hubs)) },
	"starve-etcd": func(r *rig, rnd *rand.Rand) (string, []string, func() error) { return r.starving(choose(rnd, r.etcds)) },
	"compact": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.compacting(choose(rnd, r.hubs))
	},
	"clock-hub": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.shifting(choose(rnd, r.hubs), rnd, -400*day, -time.Hour, -10*time.Second, time.Minute, day, 400*day)
	},
	"clock-etcd": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.shifting(choose(rnd, r.etcds), rnd, -400*day, -time.Minute, time.Minute, 400*day)
	},
	"clock-agent": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		a := choose(rnd, r.agents)
		if a == nil {
			return "", nil, nil
		}
		return r.shifting(&a.node, rnd, -400*day, -time.Hour, time.Minute, day)
	},
	"restore-etcd": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.restoring(rnd.IntN(2) == 0)
	},
	"lose-hub": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		return r.losing(choose(rnd, r.hubs))
	},
	"slow-hub": func(r *rig, rnd *rand.Rand) (string, []string, func() error) {
		h := choose(rnd, r.hubs)
		if h == nil || sh(in(h.name, strings.Fields("tc qdisc add dev eth0 root netem delay 100ms loss 2%")...)...) != nil {
			return "", nil, nil // where the kernel has no netem
		}
		return "slow " + h.name, []string{h.name}, func() error {
			return sh(in(h.name, strings.Fields("tc qdisc del dev eth0 root")...)...)
		}
	},
}

// day is a day of most clocks.
const day = 24 * time.Hour

func ways() string { return strings.Join(slices.Sorted(maps.Keys(accidents)), ", ") }

func choose[T any](rnd *rand.Rand, all []*T) *T {
	if len(all) == 0 {
		return nil
	}
	return all[rnd.IntN(len(all))]
}

func names(all []*node) (out []string) {
	for _, n := range all {
		out = append(out, n.name)
	}
	return out
}

func agentNames(all []*agent) (out []string) {
	for _, a := range all {
		out = append(out, a.name)
	}
	return out
}

func (r *rig) killing(n *node) (string, []string, func() error) {
	if n == nil || !n.proc.Running() {
		return "", nil, nil
	}
	r.kill(n)
	return "kill " + n.name, []string{n.name}, func() error { return r.start(n) }
}

func (r *rig) freezing(n *node) (string, []string, func() error) {
	if n == nil {
		return "", nil, nil
	}
	r.freeze(n)
	return "freeze " + n.name, []string{n.name}, func() error { r.thaw(n); return nil }
}

func (r *rig) parting(n *node, from []string) (string, []string, func() error) {
	if n == nil || len(from) == 0 || len(from) == 1 && from[0] == n.name {
		return "", nil, nil
	}
	if err := r.world.partition(true, []string{n.name}, from...); err != nil {
		return "", nil, nil
	}
	return fmt.Sprintf("part %s from %v", n.name, from), append(slices.Clone(from), n.name), func() error {
		return r.world.partition(false, []string{n.name}, from...)
	}
}

// losing drops some of the packets of a hub, both ways.
func (r *rig) losing(h *node) (string, []string, func() error) {
	if h == nil || r.world.lose(h.name) != nil {
		return "", nil, nil
	}
	return "lose packets of " + h.name, []string{h.name}, func() error { return r.world.keep(h.name) }
}

// cable cuts what one place sends to others, or mends it.
type cable func(from string, to ...string) error

// halving cuts one direction between a hub and all agents and hubs.
func (r *rig) halving(what string, h *node, way func(change cable, h, other string) error) (string, []string, func() error) {
	if h == nil {
		return "", nil, nil
	}
	each := func(change cable) (err error) {
		for _, name := range append(agentNames(r.agents), names(r.hubs)...) {
			if name != h.name && err == nil {
				err = way(change, h.name, name)
			}
		}
		return err
	}
	if err := each(r.world.sever); err != nil {
		return "", nil, nil
	}
	return what + h.name, []string{h.name}, func() error { return each(r.world.mend) }
}

// pace returns for how long things may stay broken, and how long they are well between.
func (s *settings) pace() (broken []time.Duration, well time.Duration) {
	if s.short {
		return []time.Duration{time.Second, 4 * time.Second}, 4 * time.Second
	}
	return []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}, 10 * time.Second
}

// nemesis breaks one thing after the other, sometimes two at once, and mends them, until the time is over.
func (r *rig) nemesis(ctx context.Context) error {
	rnd := rand.New(rand.NewPCG(r.settings.seed, 0))
	kinds := slices.Sorted(maps.Keys(accidents))
	if r.settings.only != "" {
		kinds = strings.Split(r.settings.only, ",")
	}
	_, well := r.settings.pace()
	for until := time.Now().Add(r.settings.length); time.Now().Before(until); {
		if !pause.For(ctx, well) {
			return ctx.Err()
		}
		if err := r.accident(ctx, rnd, kinds); err != nil {
			return err
		}
	}
	return nil
}

// accident breaks one thing or two, and mends them.
func (r *rig) accident(ctx context.Context, rnd *rand.Rand, kinds []string) error {
	var mends []func() error
	start, what := time.Now(), ""
	r.world.touch(r.slack(lossGrace)) // what is broken is felt before it is said
	var all []string
	for range 1 + rnd.IntN(4)/3 {
		kind := kinds[rnd.IntN(len(kinds))]
		said, touched, mend := accidents[kind](r, rnd)
		if mend == nil {
			continue
		}
		what, all = strings.TrimPrefix(what+", ", ", ")+said, append(all, touched...)
		mends = append(mends, mend)
	}
	if len(mends) == 0 {
		return nil
	}
	grace := r.slack(lossGrace)
	if len(mends) > 1 || len(r.hubs) == 1 || strings.Contains(what, " agent") {
		grace = r.slack(healed)
	}
	touch := func(d time.Duration) {
		if len(all) > 0 { // flows may notice
			r.world.touch(d, all...)
		}
	}
	touch(grace)
	broken, _ := r.settings.pace()
	length := broken[rnd.IntN(len(broken))]
	fmt.Printf("chaos: %v: %s for %v\n", time.Now().Format(time.TimeOnly), what, length)
	var err error
	if !pause.For(ctx, length) {
		err = ctx.Err()
	}
	touch(grace)
	for _, mend := range slices.Backward(mends) { // one may have broken what the other had
		if failed := mend(); err == nil {
			err = failed
		}
	}
	touch(grace)
	r.log.add("accident", what, start, ok, "")
	return err
}

// lossGrace is how long after the loss of one hub, or its return, new flows may fail. Of two things at once, or without another hub, it
// takes until all is healed.
const lossGrace = 2 * time.Second
