//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel"
	"ztm/tunnel/pause"
)

// inTheEnd is how long after everything was mended hubs may say different things.
const inTheEnd = 5 * time.Second

// settle looks, once everything was mended a while ago, that all is well: all are online, all flows begin, and all hubs say the same.
func (r *rig) settle(ctx context.Context) {
	for _, p := range r.pairs {
		if r.agents[p.from].user == outcast || r.agents[p.to].user == outcast {
			continue
		}
		err := r.probe(ctx, p, r.slack(inTime))
		r.log.check("I6", err == nil, "everything is mended, and from %s to %s: %v", r.agents[p.from].name, r.agents[p.to].name, err)
	}
	m, err := r.newMember("reader")
	if err != nil {
		r.log.check("I5", false, "no member: %v", err)
		return
	}
	err = process.Until(ctx, "all hubs say the same", r.slack(inTheEnd), func() error { return r.agreeNow(ctx, m) })
	r.log.check("I5", err == nil, "%v", err)
	for _, h := range r.hubs {
		err := process.Until(ctx, "all evictions are in the list", r.slack(inTheEnd), func() error { return r.holdsAll(ctx, m, h) })
		r.log.check("I3", err == nil, "%v", err)
	}
	for _, h := range r.hubs {
		loops, err := r.metric(ctx, h, `ztm_hub_links_refused_total{reason="loop"}`)
		r.log.check("I9", err == nil && loops == 0, "%s was asked %d times for a second hop (%v)", h.name, loops, err)
		open, err := r.metric(ctx, h, "ztm_hub_links")
		r.log.check("I5", err == nil && open == int64(len(r.hubs)-1), "%s is linked with %d hubs (%v)", h.name, open, err)
	}
	r.spread(ctx, m)
	r.outcast(ctx)
}

// fewest is the least share of what each hub would have if all had the same: agents choose by a hash,
// and there are few of them.
const fewest = 1.0 / 3

// spread looks that all agents have as many sessions as they want, and, if there is time for agents
// to move home, that they are with all hubs.
func (r *rig) spread(ctx context.Context, m *member) {
	if len(r.hubs) < 2 {
		return
	}
	want := 2 * len(r.agents)
	var attached []int
	err := process.Until(ctx, "all agents have two sessions", r.slack(twoSessions), func() (err error) {
		if attached, err = r.attached(ctx, m); err == nil && sum(attached) != want {
			err = fmt.Errorf("%v agents are with the hubs, want %d in all", attached, want)
		}
		return err
	})
	r.log.check("I10", err == nil, "%v", err)
	if r.settings.home == 0 {
		return
	}
	err = process.Until(ctx, "agents are with all hubs", r.settings.home, func() (err error) {
		attached, err = r.attached(ctx, m)
		if least := fewest * float64(want) / float64(len(r.hubs)); err == nil && float64(slices.Min(attached)) < least {
			err = fmt.Errorf("%v agents are with the hubs, want %.1f or more with each", attached, least)
		}
		return err
	})
	fmt.Printf("chaos: %v agents are with the hubs\n", attached)
	r.log.check("I10", err == nil, "%v", err)
}

// twoSessions is how long agents may wait before they try a hub again that was away.
const twoSessions = 45 * time.Second

// attached asks each hub how many agents are attached to it.
func (r *rig) attached(ctx context.Context, m *member) (all []int, err error) {
	defer pause.For(ctx, time.Second) // hubs do not like to be asked more often
	for _, h := range r.hubs {
		s, err := m.control(ctx, r.address(h, hubPort))
		if err != nil {
			return nil, err
		}
		var known tunnel.Hubs
		err = s.Call(ctx, http.MethodGet, tunnel.PathHubs, nil, nil, &known)
		s.Close()
		if err != nil {
			return nil, err
		}
		for _, e := range known.Hubs {
			if e.Self {
				all = append(all, e.Agents)
			}
		}
	}
	if len(all) != len(r.hubs) {
		err = fmt.Errorf("%d of %d hubs say how many agents they have", len(all), len(r.hubs))
	}
	return all, err
}

func sum(all []int) (n int) {
	for _, i := range all {
		n += i
	}
	return n
}

// metric reads a counter of a hub, at its own place.
func (r *rig) metric(ctx context.Context, h *node, name string) (int64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	words := in(h.name, self, "get", fmt.Sprintf("http://127.0.0.1:%d/metrics", metricsPort))
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

// get prints what a URL has. It is this program, at the place of a hub.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// agreeNow is agree for who asks again: not more often than hubs like.
func (r *rig) agreeNow(ctx context.Context, m *member) error {
	err := r.agree(ctx, m)
	if err != nil {
		pause.For(ctx, 500*time.Millisecond)
	}
	return err
}

// agree returns nil if all hubs list the same endpoints and evictions, with all agents online.
func (r *rig) agree(ctx context.Context, m *member) error {
	first, online, err := r.listing(ctx, m, r.hubs[0])
	if err != nil {
		return err
	}
	for _, a := range r.agents {
		if first[a.name] != a.id || !online[a.name] {
			return fmt.Errorf("at %s %s is not there, or not online", r.hubs[0].name, a.name)
		}
	}
	for _, h := range r.hubs {
		names, on, err := r.listing(ctx, m, h)
		if err != nil {
			return err
		}
		if len(r.etcds) > 0 && !maps.Equal(names, first) { // hubs with links alone tell each other who is attached
			return fmt.Errorf("%s and %s list different names: %d and %d", r.hubs[0].name, h.name, len(first), len(names))
		}
		for _, a := range r.agents {
			if names[a.name] != a.id || !on[a.name] {
				return fmt.Errorf("at %s %s is not online", h.name, a.name)
			}
		}
	}
	return nil
}

// holdsAll returns nil if the list of a hub has all evictions that have succeeded.
func (r *rig) holdsAll(ctx context.Context, m *member, h *node) error {
	defer pause.For(ctx, 500*time.Millisecond) // hubs do not like to be asked more often
	list, err := r.list(ctx, m, h)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, user := range r.evicted {
		if list == nil || !list.Voids(user, m.cert.Leaf.NotBefore) {
			return fmt.Errorf("the list of %s lacks the eviction of %s", h.name, user)
		}
	}
	return nil
}

// outcast evicts the user of the last agent, whose tunnels must end, and looks that its flows do.
func (r *rig) outcast(ctx context.Context) {
	start := time.Now()
	if err := r.command(ctx, r.agents[0].name, "evict", outcast); err != nil {
		r.log.check("I3", false, "%v", err)
		return
	}
	r.log.add("evict", outcast, start, ok, "")
	if !pause.For(ctx, r.slack(2*time.Second)) {
		return
	}
	for _, p := range r.pairs {
		if r.agents[p.from].user == outcast {
			err := r.probe(ctx, p, r.slack(inTime))
			r.log.check("I3", err != nil, "%s was evicted, and reaches %s", outcast, r.agents[p.to].name)
		}
	}
}

// use is what processes have of the machine.
type use struct {
	descriptors map[string]int
	memory      map[string]int64
}

func (r *rig) resources() use {
	u := use{map[string]int{}, map[string]int64{}}
	r.each(func(n *node) {
		u.descriptors[n.name] = descriptors(n)
		u.memory[n.name], _ = n.proc.Memory()
	})
	return u
}

// each calls f for the hubs and agents.
func (r *rig) each(f func(*node)) {
	for _, h := range r.hubs {
		f(h)
	}
	for _, a := range r.agents {
		f(&a.node)
	}
}

// What a process may have more of than at rest before: connections that are kept for a while, and what the collector has not returned.
const (
	moreDescriptors = 20
	moreMemory      = 24 << 20
)

// compare looks that nothing was left behind.
func (r *rig) compare(before, after use) {
	crowded := 0 // agents go to other hubs than in the beginning, so each may have as many as any had
	for _, h := range r.hubs {
		crowded = max(crowded, before.descriptors[h.name])
	}
	r.each(func(n *node) {
		r.log.check("I11", n.proc.Running(), "%s has ended by itself", n.name)
		b, a := before.descriptors[n.name], after.descriptors[n.name]
		if slices.Contains(r.hubs, n) {
			b = crowded
		}
		r.log.check("I11", a <= b+b/10+moreDescriptors*len(r.hubs), "%s had %d descriptors and has %d", n.name, b, a)
		m, k := before.memory[n.name], after.memory[n.name]
		r.log.check("I11", k <= m+m/10+moreMemory, "%s had %d MB and has %d", n.name, m>>20, k>>20)
		said := n.proc.Says("panic: ") == nil || n.proc.Says("fatal error: ") == nil
		r.log.check("I11", !said, "%s has had a fault of its own: see %s.log", n.name, n.name)
	})
}
