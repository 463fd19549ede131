// Package metric writes counters and gauges in the text format that Prometheus reads (version
// 0.0.4).
//
//	Set <- Writer (labels that all of its samples have) <- Counter, Gauge
//	 └> WriteTo: families in the order of their names, each with its help and type once
package metric

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
)

// Set is what one answer holds. The zero value is empty and ready. It is for one goroutine.
type Set struct {
	families map[string]*family
}

// family is all samples of one name.
type family struct {
	kind, help string
	samples    []string // "{labels} value\n"
}

// Writer adds samples to a [Set].
type Writer struct {
	set    *Set
	labels []string                          // name, value, ...
	more   func(name, value string) []string // labels that stand beside one; nil: none
}

// With returns a writer whose samples have the labels: pairs of a name and a value.
func (s *Set) With(labels ...string) *Writer { return &Writer{set: s, labels: labels} }

// With returns a writer whose samples have more labels.
func (w *Writer) With(labels ...string) *Writer {
	return &Writer{set: w.set, labels: append(slices.Clip(w.labels), labels...), more: w.more}
}

// Beside returns a writer that asks more about each label of a sample, and adds the labels that it
// returns.
func (w *Writer) Beside(more func(name, value string) []string) *Writer {
	return &Writer{set: w.set, labels: w.labels, more: more}
}

// Counter adds a sample of a number that only grows while the process lives. Its name ends in
// "_total". help is a sentence; that of the first sample of a name counts. labels are pairs of a
// name and a value.
func (w *Writer) Counter(name, help string, value int64, labels ...string) {
	w.add("counter", name, help, value, labels)
}

// Gauge adds a sample of a number that rises and falls.
func (w *Writer) Gauge(name, help string, value int64, labels ...string) {
	w.add("gauge", name, help, value, labels)
}

// Process adds what this process has of the system. prefix begins the names: "ztm_hub".
func (w *Writer) Process(prefix string) {
	w.Gauge(prefix+"_goroutines", "Goroutines.", int64(runtime.NumGoroutine()))
	if rss, fds, ok := process(); ok {
		w.Gauge(prefix+"_resident_memory_bytes", "Resident memory.", rss)
		w.Gauge(prefix+"_open_fds", "Open file descriptors.", fds)
	}
}

func (w *Writer) add(kind, name, help string, value int64, labels []string) {
	if w.set.families == nil {
		w.set.families = map[string]*family{}
	}
	f := w.set.families[name]
	if f == nil {
		f = &family{kind: kind, help: help}
		w.set.families[name] = f
	}
	labels = append(slices.Clip(w.labels), labels...)
	if w.more != nil {
		for i := range len(labels) / 2 {
			labels = append(labels, w.more(labels[2*i], labels[2*i+1])...)
		}
	}
	f.samples = append(f.samples, fmt.Sprintf("%s %d\n", braced(labels), value))
}

// braced writes labels. The format knows three escapes and refuses all else that Go's quotes would
// hold; text that is not UTF-8 makes a reader refuse the whole answer.
func braced(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		value := escapes.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD"))
		fmt.Fprintf(&b, `,%s="%s"`, labels[i], value)
	}
	return "{" + b.String()[1:] + "}"
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// WriteTo writes the set.
func (s *Set) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		f := s.families[name]
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, f.help, name, f.kind)
		for _, sample := range f.samples {
			b.WriteString(name)
			b.WriteString(sample)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Answer answers a request for the set.
func (s *Set) Answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.WriteTo(w) // fails only when nobody reads it
}
