//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel/pause"
)

// Times of flows.
const (
	inTime     = 2 * time.Second        // a new flow has its first answer
	probeGap   = 50 * time.Millisecond  // between the beginnings of two probes
	standstill = 500 * time.Millisecond // without such a beginning
	beat       = 200 * time.Millisecond // of a long flow
	longFlows  = 12
	largeSize  = 4 << 20
)

// running is what goes on while things are broken.
type running struct{ sync.WaitGroup }

// everything begins all that goes on, until ctx ends.
func (r *rig) everything(ctx context.Context) *running {
	w := new(running)
	w.Go(func() { r.probes(ctx) })
	for i := range longFlows {
		w.Go(func() { r.long(ctx, i) })
	}
	w.Go(func() { r.large(ctx) })
	w.Go(func() { r.tokens(ctx) })
	w.Go(func() { r.names(ctx) })
	w.Go(func() { r.evictions(ctx) })
	w.Go(func() { r.lists(ctx) })
	return w
}

var words atomic.Int64

func newWord() string { return fmt.Sprint("flow-", words.Add(1)) }

// open begins a flow at the entrance of a pair.
func (r *rig) open(ctx context.Context, p pair, word string, n int, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.listen)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(within))
	if _, err := fmt.Fprintf(c, "%s %d\n", word, n); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// probe is a flow with one short answer.
func (r *rig) probe(ctx context.Context, p pair, within time.Duration) error {
	if within == 0 {
		within = 5 * time.Second
	}
	word := newWord()
	c, err := r.open(ctx, p, word, 0, within)
	if err != nil {
		return err
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "ok "+word+"\n" {
		err = fmt.Errorf("the answer is %q", line)
	}
	return err
}

// probes opens flows between random pairs all the time.
func (r *rig) probes(ctx context.Context) {
	var flows sync.WaitGroup
	defer flows.Wait()
	tick := time.NewTicker(probeGap)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(last) > standstill { // something else has the processors
			r.world.stood(last, r.slack(lossGrace))
			r.log.add("machine stood still", "", last, ok, "")
		}
		p := r.pairs[rand.IntN(len(r.pairs))]
		if r.agents[p.from].user == outcast || r.agents[p.to].user == outcast {
			continue // evictions looks at these
		}
		flows.Go(func() { r.judged(ctx, p) })
	}
}

// judged is a probe that must work if there is a way, and nothing has changed lately.
func (r *rig) judged(ctx context.Context, p pair) {
	start, from, to := time.Now(), r.agents[p.from].name, r.agents[p.to].name
	before := r.world.way(from, to, r.hubs)
	err := r.probe(context.WithoutCancel(ctx), p, r.slack(inTime))
	o := ok
	if err != nil {
		o = failed
	}
	name := from + " to " + to
	r.log.add("probe", name, start, o, text(err))
	if before && r.world.way(from, to, r.hubs) && r.world.calm(start, time.Now()) {
		r.log.check("I6", err == nil, "%s: %v after %v, although there is a way", name, err, time.Since(start).Round(time.Millisecond))
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// long is a flow that lasts until it breaks, and then the next. One that breaks must have passed through what was broken.
func (r *rig) long(ctx context.Context, i int) {
	p := r.pairs[i*len(r.pairs)/longFlows]
	if r.agents[p.from].user == outcast || r.agents[p.to].user == outcast {
		return
	}
	for ctx.Err() == nil {
		start := time.Now()
		passed, err := r.beats(ctx, p)
		if ctx.Err() != nil {
			r.log.add("long flow", p.listen, start, ok, "")
			return
		}
		r.log.add("long flow", p.listen, start, failed, text(err))
		if time.Since(start) > r.slack(5*time.Second) { // it stood
			r.log.check("flows", !r.untouched(p, passed), "the flow from %s to %s broke (%v), and nothing that it passes was touched",
				r.agents[p.from].name, r.agents[p.to].name, err)
		}
		pause.For(ctx, 500*time.Millisecond)
	}
}

// beats sends and gets a little all the time, and returns which hubs that may have passed.
func (r *rig) beats(ctx context.Context, p pair) (map[string]bool, error) {
	c, err := r.open(ctx, p, newWord(), -1, r.slack(inTime))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	buf, through := make([]byte, 64), map[string]bool{}
	for n := 0; ; n++ {
		if n%5 == 0 {
			maps.Copy(through, r.through(p))
		}
		// A flow whose hub is frozen stands still, and then ends: see the table of failures.
		c.SetDeadline(time.Now().Add(r.slack(30 * time.Second)))
		sent := fmt.Appendf(nil, "%064d", n)
		if _, err := c.Write(sent); err != nil {
			return through, err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return through, err
		}
		r.log.check("I8", string(buf) == string(sent), "the answer to %s is %s", sent, buf)
		if !pause.For(ctx, beat) {
			return through, ctx.Err()
		}
	}
}

// untouched reports whether nothing has been touched lately that a flow could pass: its agents, and hubs that one of them had more with
// than a control session.
func (r *rig) untouched(p pair, through map[string]bool) bool {
	since := time.Now().Add(-r.slack(20 * time.Second))
	names := []string{r.agents[p.from].name, r.agents[p.to].name}
	for _, h := range r.hubs {
		if through[h.name] {
			names = append(names, h.name)
		}
	}
	return !r.world.touchedSince(since, names...)
}

// through returns the hubs that the agents of a pair have more than one connection to.
func (r *rig) through(p pair) map[string]bool {
	passed := map[string]bool{}
	for _, a := range []*agent{r.agents[p.from], r.agents[p.to]} {
		table, err := os.ReadFile(a.proc.Proc("net/tcp"))
		if err != nil {
			continue // it was killed
		}
		for _, h := range r.hubs {
			if strings.Count(string(table), " "+kernelAddress(r.world.places[h.name], hubPort)+" 01 ") > 1 {
				passed[h.name] = true
			}
		}
	}
	return passed
}

// kernelAddress is an address as the kernel writes it in its tables.
func kernelAddress(ip string, port int) string {
	b := net.ParseIP(ip).To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", b[3], b[2], b[1], b[0], port)
}

// large moves much data, and looks at all of it.
func (r *rig) large(ctx context.Context) {
	for ctx.Err() == nil {
		p := r.pairs[rand.IntN(len(r.pairs))]
		start := time.Now()
		whole, err := r.transfer(ctx, p)
		o := ok
		if err != nil {
			o = failed
		} else {
			r.log.check("I8", whole, "what came through %s is not what was sent", p.listen)
		}
		r.log.add("large flow", p.listen, start, o, text(err))
		pause.For(ctx, time.Second)
	}
}

func (r *rig) transfer(ctx context.Context, p pair) (whole bool, err error) {
	c, err := r.open(ctx, p, newWord(), largeSize, r.slack(inTime))
	if err != nil {
		return false, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(r.slack(30 * time.Second)))
	hash, in := sha256.New(), bufio.NewReader(c)
	if _, err := io.CopyN(hash, in, largeSize); err != nil {
		return false, err
	}
	line, err := in.ReadString('\n')
	return strings.TrimSpace(line) == hex.EncodeToString(hash.Sum(nil)), err
}

// descriptors returns how many files and sockets a process has.
func descriptors(n *node) int {
	entries, err := os.ReadDir(n.proc.Proc("fd"))
	if err != nil {
		return 0
	}
	return len(entries)
}
