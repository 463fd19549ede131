package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// row is what one attack came to.
type row struct {
	Who    string  `json:"who"`
	Name   string  `json:"name"`
	Tried  int     `json:"tried"`
	LetIn  int     `json:"letIn"`
	Note   string  `json:"note,omitempty"`
	Usual  latency `json:"usual"`
	During latency `json:"during"`
	Grown  sizes   `json:"grown"` // at the most, during the attack
	Left   sizes   `json:"left"`  // some seconds after it
	Used   used    `json:"used"`  // during the attack
}

// Bounds on what an honest pair may notice, and on what a process may grow by.
const (
	mostPath     = time.Second
	mostPing     = 2        // times the usual
	mostHub      = 96 << 20 // bytes: 1024 connections that have not said who they are, and their buffers
	mostAgent    = 48 << 20 // bytes
	mostLogEvery = 64 << 10 // bytes of log a second
)

func printHead() {
	fmt.Printf("%-9s %-50s %8s %6s  %-23s %-23s %-19s %-17s %-17s %-13s %s\n", "who", "attack", "tried", "let in",
		"new path p50/max ms", "connection p50/max ms", "ping p50 ms (usual)", "hub MB peak/left", "exit MB peak/left", "CPU hub/exit", "log KB/s")
}

func (r row) print() {
	failed := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(" %d failed", n)
	}
	d := r.During
	fmt.Printf("%-9s %-50s %8d %6d  %-23s %-23s %-19s %-17s %-17s %-13s %.1f  %s\n", r.Who, r.Name, r.Tried, r.LetIn,
		fmt.Sprintf("%.0f/%.0f%s", ms(d.Path.P50), ms(d.Path.Max), failed(d.Path.Failed)),
		fmt.Sprintf("%.0f/%.0f%s", ms(d.Connection.P50), ms(d.Connection.Max), failed(d.Connection.Failed)),
		fmt.Sprintf("%.2f (%.2f)", ms(d.Ping), ms(r.Usual.Ping)),
		fmt.Sprintf("%+.1f/%+.1f", mb(r.Grown.Hub), mb(r.Left.Hub)), fmt.Sprintf("%+.1f/%+.1f", mb(r.Grown.Exit), mb(r.Left.Exit)),
		fmt.Sprintf("%.2f/%.2f", r.share(r.Used.Hub), r.share(r.Used.Exit)), r.logRate()/1024, r.Note)
	for _, fault := range r.faults() {
		fmt.Printf("%-9s   FAULT: %s\n", "", fault)
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
func mb(n int64) float64         { return float64(n) / (1 << 20) }

// share is processor time in processors.
func (r row) share(used time.Duration) float64 {
	return used.Seconds() / max(r.During.Length.Seconds(), 1)
}

// logRate is in bytes a second, of all processes.
func (r row) logRate() float64 { return float64(r.Grown.Log) / max(r.During.Length.Seconds(), 1) }

// faults are the bounds that the row breaks, in words.
func (r row) faults() []string {
	var out []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	d := r.During
	say(r.Tried == 0, "nothing was tried")
	say(r.LetIn > 0, "%d were let in", r.LetIn)
	say(d.Path.Failed > 0, "%d new paths failed: %s", d.Path.Failed, d.Path.Why)
	say(d.Path.Max > mostPath, "a new path took %v", d.Path.Max.Round(time.Millisecond))
	say(d.Connection.Failed > 0, "%d new connections failed: %s", d.Connection.Failed, d.Connection.Why)
	say(d.Connection.Max > mostPath, "a new connection took %v", d.Connection.Max.Round(time.Millisecond))
	say(r.slow(), "the ping-pong takes %v, usually %v", d.Ping, r.Usual.Ping)
	say(r.Grown.Hub > mostHub, "the hub grew by %.0f MB", mb(r.Grown.Hub))
	say(r.Grown.Exit > mostAgent, "the exit grew by %.0f MB", mb(r.Grown.Exit))
	say(r.Grown.Entrance > mostAgent, "the entrance grew by %.0f MB", mb(r.Grown.Entrance))
	say(r.logRate() > mostLogEvery, "%.0f KB of log a second", r.logRate()/1024)
	return out
}

// slow reports whether the ping-pong takes more than its bound.
func (r row) slow() bool { return r.During.Ping > mostPing*r.Usual.Ping }

// middle is the row whose ping-pong suffers neither most nor least, of an odd number of rows.
func middle(rows []row) row {
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.suffers(), b.suffers()) })
	return rows[len(rows)/2]
}

// suffers is how many times its usual time the ping-pong takes.
func (r row) suffers() float64 { return float64(r.During.Ping) / float64(max(r.Usual.Ping, 1)) }

// verdict is an error if a row breaks a bound.
func verdict(rows []row) error {
	var bad []string
	for _, r := range rows {
		if len(r.faults()) > 0 {
			bad = append(bad, r.Name)
		}
	}
	fmt.Printf("\n%d attacks, %d of them harmful\n", len(rows), len(bad))
	if len(bad) > 0 {
		return errors.New("harmful: " + strings.Join(bad, "; "))
	}
	return nil
}
