//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// world is the namespaces and what is between them: each place has a cable to one bridge.
type world struct {
	places map[string]string // IP address by name

	mu       sync.Mutex
	dead     map[string]bool    // processes that do not run, or are frozen
	cut      map[[2]string]bool // from, to: no packet passes
	troubled []trouble
	touched  map[string]time.Time // when a place was last broken or mended
}

// trouble is a time in which flows may fail: something has just changed.
type trouble struct{ from, to time.Time }

// observer is where this program is. Nobody is ever cut off from it.
const observer = "10.77.0.1"

func newWorld() (*world, error) {
	w := &world{places: map[string]string{}, dead: map[string]bool{}, cut: map[[2]string]bool{}, touched: map[string]time.Time{}}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return nil, err
	}
	for _, words := range []string{
		"mount -t tmpfs none /run/netns", "ip link set dev lo up",
		"ip link add name bridge type bridge", "ip addr add " + observer + "/24 dev bridge", "ip link set dev bridge up",
	} {
		if err := sh(strings.Fields(words)...); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func sh(words ...string) error {
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return nil
}

// add makes a place with an address.
func (w *world) add(name, ip string) error {
	w.places[name] = ip
	for _, words := range []string{
		"ip netns add " + name,
		"ip link add name v-" + name + " type veth peer name eth0 netns " + name,
		"ip link set dev v-" + name + " master bridge up",
		"ip -n " + name + " link set dev lo up",
		"ip -n " + name + " addr add " + ip + "/24 dev eth0",
		"ip -n " + name + " link set dev eth0 up",
	} {
		if err := sh(strings.Fields(words)...); err != nil {
			return err
		}
	}
	return sh("ip", "netns", "exec", name, "nft", `table inet chaos {
		set from { type ipv4_addr; }
		set to { type ipv4_addr; }
		chain in { type filter hook input priority 0; ip saddr @from drop; }
		chain out { type filter hook output priority 0; ip daddr @to drop; }
	}`)
}

// in is what makes a program run at a place.
func in(place string, words ...string) []string {
	return append([]string{"ip", "netns", "exec", place}, words...)
}

// sever drops what one place sends to others, and mend lets it pass again. They do it where it is received.
func (w *world) sever(from string, to ...string) error { return w.change("add", true, from, to) }
func (w *world) mend(from string, to ...string) error  { return w.change("delete", false, from, to) }

func (w *world) change(verb string, cut bool, from string, to []string) error {
	for _, place := range to {
		w.mu.Lock()
		same := w.cut[[2]string{from, place}] == cut
		w.cut[[2]string{from, place}] = cut
		w.mu.Unlock()
		if same {
			continue
		}
		if err := sh(in(place, "nft", verb, "element", "inet", "chaos", "from", "{", w.places[from], "}")...); err != nil {
			return err
		}
	}
	return nil
}

// partition cuts places off from each other, both ways, or joins them again.
func (w *world) partition(cut bool, one []string, others ...string) error {
	verb := w.mend
	if cut {
		verb = w.sever
	}
	for _, a := range one {
		rest := slices.DeleteFunc(slices.Clone(others), func(b string) bool { return a == b })
		if err := verb(a, rest...); err != nil {
			return err
		}
		for _, b := range rest {
			if err := verb(b, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// lose drops one packet of twenty that a place sends or gets, and keep ends that. They are dropped on the way: whoever sent one hears of
// nothing. Packets between this program and the place are dropped, too.
func (w *world) lose(place string) error {
	if err := sh("nft", lossy("v-"+place)); err != nil {
		return err
	}
	err := sh(in(place, "nft", lossy("eth0"))...)
	if err != nil {
		sh("nft", "delete table netdev v-"+place)
	}
	return err
}

func (w *world) keep(place string) error {
	return errors.Join(sh("nft", "delete table netdev v-"+place), sh(in(place, "nft", "delete table netdev eth0")...))
}

// lossy is the table that drops some of what comes in by a device.
func lossy(device string) string {
	return "table netdev " + device + ` {
		chain in { type filter hook ingress device "` + device + `" priority 0; numgen random mod 100 < 5 drop; }
	}`
}

// set says that a process runs or does not.
func (w *world) set(place string, dead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[place] = dead
}

// touch says that places change now, and that flows may fail for a while.
func (w *world) touch(grace time.Duration, places ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.troubled = append(w.troubled, trouble{now, now.Add(grace)})
	for _, p := range places {
		w.touched[p] = now
	}
}

// drains says that a place is about to end: flows through it may break at any moment, and new ones have no excuse.
func (w *world) drains(place string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched[place] = time.Now()
}

// stood says that the machine itself did nothing since a time: nothing is to be judged then, nor for a while.
func (w *world) stood(since time.Time, grace time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.troubled = append(w.troubled, trouble{since, time.Now().Add(grace)})
}

// touchedSince reports whether any of some places has changed since, or is not as it should be.
func (w *world) touchedSince(since time.Time, places ...string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(places, func(p string) bool { return w.dead[p] || w.touched[p].After(since) })
}

// calm reports whether nothing had changed for long when something began, nor until it ended.
func (w *world) calm(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(w.troubled, func(t trouble) bool { return from.Before(t.to) && to.After(t.from) })
}

// together reports whether two places can reach each other.
func (w *world) together(a, b string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.togetherLocked(a, b)
}

func (w *world) togetherLocked(a, b string) bool {
	return !w.dead[a] && !w.dead[b] && !w.cut[[2]string{a, b}] && !w.cut[[2]string{b, a}]
}

// way reports whether there is a way between two agents: through a hub, or through two.
func (w *world) way(a, b string, hubs []*node) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range hubs {
		if !w.togetherLocked(a, h.name) {
			continue
		}
		for _, k := range hubs {
			if w.togetherLocked(b, k.name) && (h == k || w.togetherLocked(h.name, k.name)) {
				return true
			}
		}
	}
	return false
}
