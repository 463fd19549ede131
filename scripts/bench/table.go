package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// figures are what a row has of each path: a value for each round, or why there is none.
type figures struct {
	samples map[string][]float64
	failed  map[string]string
}

func newFigures() figures { return figures{map[string][]float64{}, map[string]string{}} }

// ours are the figures of a row that only ztm has.
func ours(v float64) figures {
	f := newFigures()
	f.samples["ztm"] = []float64{v}
	return f
}

// fail takes a path out of a row.
func (f figures) fail(p *path, err error) {
	f.failed[p.name] = err.Error()
	delete(f.samples, p.name)
}

// has reports whether a path has failed in a row; it is not tried again there.
func (f figures) has(p *path) bool { _, failed := f.failed[p.name]; return failed }

func (f figures) keep(p *path, v float64) { f.samples[p.name] = append(f.samples[p.name], v) }

// value is what a path has come to in all rounds.
type value struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func valueOf(samples []float64) value {
	s := slices.Sorted(slices.Values(samples))
	return value{(s[len(s)/2] + s[(len(s)-1)/2]) / 2, s[0], s[len(s)-1]}
}

// row is one measurement: for each path a value, or why there is none.
type row struct {
	Name   string             `json:"name"`
	Unit   string             `json:"unit"`
	Values map[string]value   `json:"values"`
	Failed map[string]string  `json:"failed,omitempty"`
	Goal   string             `json:"goal,omitempty"`
	Ratios map[string]float64 `json:"ratios,omitempty"` // of medians, to plain hops
}

// The paths that others are compared with, and ztm.
const (
	plainHops  = "plain hops"
	sealedHops = "sealed hops"
	ztm        = "ztm"
	before     = "before" // another binary of ztm
	single     = "one connection"
)

// peers are the paths of others: a row that they fail says so, and the run has not failed.
var peers = []string{"frp stcp+tls", "chisel", rsync, syncthing, fileCp, scpThrough, inTunnel, fileTunnel}

// columns are the paths in the order in which a row is printed.
var columns = append([]string{"direct", plainHops, sealedHops, ztm, before, single, single + ", " + before}, peers...)

func newRow(name, unit, goal string, f figures) row {
	out := row{Name: name, Unit: unit, Goal: goal, Values: map[string]value{}, Failed: f.failed, Ratios: map[string]float64{}}
	for p, samples := range f.samples {
		out.Values[p] = valueOf(samples)
	}
	if limit := out.Values[plainHops].Median; limit > 0 {
		for p, v := range out.Values {
			if p != plainHops {
				out.Ratios[p] = v.Median / limit
			}
		}
	}
	return out
}

// String is the row as it is printed: medians, the spread of the rounds, and the ratio to plain
// hops.
func (w row) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s", w.Name, w.Unit)
	if w.Goal != "" {
		fmt.Fprintf(&b, "  (goal %s)", w.Goal)
	}
	for _, p := range columns {
		if why, ok := w.Failed[p]; ok {
			fmt.Fprintf(&b, "\n    %-22s failed: %s", p, why)
		}
		v, ok := w.Values[p]
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "\n    %-22s %10.4g", p, v.Median)
		if v.Least != v.Most {
			fmt.Fprintf(&b, "  (%.4g to %.4g)", v.Least, v.Most)
		}
		if ratio, ok := w.Ratios[p]; ok {
			fmt.Fprintf(&b, "  %.2f", ratio)
		}
	}
	return b.String()
}

// add prints a row at once: a run takes minutes.
func (r *run) add(name, unit, goal string, f figures) {
	out := newRow(name, unit, goal, f)
	r.result = append(r.result, out)
	fmt.Println(out)
	for p, why := range f.failed {
		if !slices.Contains(peers, p) {
			r.errs = append(r.errs, fmt.Errorf("%s: %s: %s", name, p, why))
		}
	}
}

// rounds has f measured on each path, so many times, and the paths take turns: what changes on the
// machine meets them all. A path that fails is not tried again for this row, and the others go on.
func rounds(n int, paths []*path, f func(*path) (float64, error)) figures {
	out := newFigures()
	for range n {
		for _, p := range paths {
			if out.has(p) {
				continue
			}
			if v, err := f(p); err != nil {
				out.fail(p, err)
			} else {
				out.keep(p, v)
			}
		}
	}
	return out
}

// table writes the rows as docs/performance.md has them to a file, if there is one to write to.
func (r *run) table(file string) error {
	if file == "" {
		return nil
	}
	shown := []string{plainHops, sealedHops, ztm, single}
	var b strings.Builder
	fmt.Fprintf(&b, "| what | unit | goal | %s |\n|---|---|---|%s\n", strings.Join(shown, " | "), strings.Repeat("---|", len(shown)))
	for _, w := range r.result {
		fmt.Fprintf(&b, "| %s | %s | %s |", w.Name, w.Unit, w.Goal)
		for _, p := range shown {
			b.WriteString(w.cell(p) + " |")
		}
		b.WriteString("\n")
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// cell is the median of a path, with its ratio to plain hops and to sealed hops.
func (w row) cell(p string) string {
	v, ok := w.Values[p]
	if !ok {
		return ""
	}
	text := fmt.Sprintf(" %.4g", v.Median)
	if ratio, ok := w.Ratios[p]; ok {
		text += fmt.Sprintf(" (%.2f", ratio)
		if s := w.Values[sealedHops].Median; s > 0 && p != sealedHops {
			text += fmt.Sprintf(", %.2f of sealed", v.Median/s)
		}
		text += ")"
	}
	return text
}
