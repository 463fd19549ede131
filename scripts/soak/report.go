package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what happened.
type report struct {
	flows          int
	length         time.Duration
	first          uint64 // the process that lives throughout
	killed, reborn uint64 // the other, and the one in its place
	killedAt       time.Time
	startedAt      time.Time // when the other was started again
	backAt         time.Time // when it listened
	results        []*flow
	newcomers      []newcomer
	broken         []string // what was wrong with the hub and the agents
	overflows      int      // datagrams that the system dropped meanwhile because a socket was full, anybody's
	dropped        int      // datagrams that the tunnel says it dropped
	memory         []string
}

// row sums up the flows of one kind that came to one target.
type row struct {
	flows, whole, lost, units int
	up, down                  int64
}

func (r *report) row(kind string, target uint64) (sum row) {
	for _, f := range r.results {
		if f.kind != kind || f.target != target {
			continue
		}
		sum.flows++
		if f.err == nil {
			sum.whole++
		}
		sum.lost += f.lost
		sum.units += f.units
		sum.up += f.up
		sum.down += f.down
	}
	return sum
}

// period sums up the newcomers of one transport that came between two moments.
func (r *report) period(transport string, from, to time.Time) (first, other, failed int) {
	for _, n := range r.newcomers {
		switch {
		case n.transport != transport || n.began.Before(from) || n.ended.After(to):
		case n.err != nil:
			failed++
		case n.target == r.first:
			first++
		default:
			other++
		}
	}
	return first, other, failed
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d flows for %v; target b was killed after %v and was back after %v\n\n", r.flows, r.length,
		(r.length / 3).Round(time.Second/10), (r.length / 2).Round(time.Second/10))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "flows\ton target\tall\twhole to the end\tchecked\tlost datagrams\tMB up\tMB down\t")
	for _, kind := range kinds {
		for i, target := range []uint64{r.first, r.killed} {
			s := r.row(kind, target)
			fmt.Fprintf(t, "%s\t%c\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t\n", kind, 'a'+i, s.flows, s.whole, s.units, s.lost, float64(s.up)/1e6, float64(s.down)/1e6)
		}
	}
	t.Flush()
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nnew flows\twhen\tto a\tto b\tfailed\t")
	for _, transport := range transports {
		for _, p := range r.periods() {
			first, other, failed := r.period(transport, p.from, p.to)
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t\n", transport, p.name, first, other, failed)
		}
	}
	t.Flush()
	for _, transport := range transports {
		if after, ok := r.found(transport); ok {
			fmt.Fprintf(w, "\nb had its first new %s flow %.1f s after it was back", transport, after.Seconds())
		}
	}
	fmt.Fprintf(w, "\ndatagrams that were dropped: %d by the tunnel, %d by the system because a socket was full, anybody's", r.dropped, r.overflows)
	fmt.Fprintf(w, "\nmost memory: %s\n", strings.Join(r.memory, ", "))
}

type period struct {
	name     string
	from, to time.Time
}

func (r *report) periods() []period {
	return []period{
		{"before", time.Time{}, r.killedAt},
		{"while b is away", r.killedAt, r.startedAt},
		{"after", r.backAt, r.backAt.Add(r.length)},
	}
}

// found returns how long it took until the target that came back had a new flow.
func (r *report) found(transport string) (time.Duration, bool) {
	for _, n := range r.newcomers {
		if n.transport == transport && n.err == nil && n.target == r.reborn {
			return n.ended.Sub(r.backAt), true
		}
	}
	return 0, false
}

// verdict returns everything that should not have happened.
func (r *report) verdict() error {
	var errs []error
	lost := 0 // of the flows that should have lost none
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, f := range r.results {
		hit := f.target == r.killed
		switch {
		case f.kind == "datagrams" && f.err != nil: // these find another target
			wrong("flow %d (datagrams, number %d arrived): %w", i, f.units, f.err)
		case errors.Is(f.err, errContent):
			wrong("flow %d (%s): %w", i, f.kind, f.err)
		case !hit && f.err != nil:
			wrong("flow %d (%s) was not on the target that was killed: %w", i, f.kind, f.err)
		case !hit && f.kind == "datagrams":
			lost += f.lost
		case hit && f.err == nil && f.kind != "datagrams":
			wrong("flow %d (%s) outlived its target", i, f.kind)
		}
	}
	if counted := r.dropped + r.overflows; lost > counted {
		wrong("flows that were not on the target that was killed lost %d datagrams, and %d were counted", lost, counted)
	}
	for _, transport := range transports {
		for _, p := range r.periods() {
			first, other, failed := r.period(transport, p.from, p.to)
			away := p.from.Equal(r.killedAt)
			if failed > 0 || first == 0 || (other == 0) != away {
				wrong("new %s flows %s: %d to a, %d to b, %d failed", transport, p.name, first, other, failed)
			}
		}
	}
	for _, what := range r.broken {
		wrong("%s", what)
	}
	return errors.Join(errs...)
}
