package file

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ztm/tunnel/unixtime"
)

// node is a value of a file, and where it stands.
type node struct {
	line  int
	kind  kind
	text  string  // of text and word
	pairs []pair  // of a mapping, in order
	items []*node // of a list
}

type pair struct {
	key   string
	line  int
	value *node
}

// kind is what a node is. A word is what is not in quotes and is no text to a reader of YAML: a
// number, yes, null, a date.
type kind int

const (
	text kind = iota
	word
	list
	mapping
)

func (k kind) String() string { return []string{"a text", "no text", "a list", "a mapping"}[k] }

// wrongf is an error at a line.
func wrongf(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
}

// reader reads the parts of a file. The first error stays; what is read after it counts for nothing.
type reader struct{ err error }

func (r *reader) fail(n *node, format string, args ...any) {
	if r.err == nil {
		r.err = wrongf(n.line, format, args...)
	}
}

// fields gives each field of a mapping to its function. A field that is there twice or that nobody
// knows is wrong, and so is one of required that is not there.
func (r *reader) fields(n *node, what string, known map[string]func(*node), required ...string) {
	seen := r.each(n, what, func(key string, line int, v *node) {
		read := known[key]
		if read == nil {
			r.fail(&node{line: line}, "%s has no field %q", what, key)
			return
		}
		read(v)
	})
	for _, key := range required {
		if !seen[key] {
			r.fail(n, "%s has no %s", what, key)
		}
	}
}

// each gives the pairs of a mapping to f, and returns the keys.
func (r *reader) each(n *node, what string, f func(key string, line int, v *node)) map[string]bool {
	seen := map[string]bool{}
	if n.kind != mapping {
		r.fail(n, "%s: %s is not a mapping", what, n.kind)
		return seen
	}
	for _, p := range n.pairs {
		if seen[p.key] {
			r.fail(&node{line: p.line}, "%q is there twice", p.key)
			return seen
		}
		seen[p.key] = true
		f(p.key, p.line, p.value)
	}
	return seen
}

// string reads a text.
func (r *reader) string(n *node) string {
	switch n.kind {
	case text:
		return n.text
	case word:
		r.fail(n, "%s is no text here: write it in quotes", n.text)
	default:
		r.fail(n, "%s is not a text", n.kind)
	}
	return ""
}

// strings reads a list of texts. Where it may not be empty, "all" has to be written out.
func (r *reader) strings(n *node, what string, mayBeEmpty bool) []string {
	out := []string{}
	for _, item := range r.list(n, what, mayBeEmpty) {
		s := r.string(item)
		if slices.Contains(out, s) {
			r.fail(item, "%s: %q is there twice", what, s)
		}
		out = append(out, s)
	}
	return out
}

func (r *reader) list(n *node, what string, mayBeEmpty bool) []*node {
	switch {
	case n.kind != list:
		r.fail(n, "%s: %s is not a list", what, n.kind)
	case len(n.items) == 0 && !mayBeEmpty:
		r.fail(n, "%s is empty: '*' means all", what)
	}
	return n.items
}

// bool reads true or false.
func (r *reader) bool(n *node) bool {
	if n.kind != word || n.text != "true" && n.text != "false" {
		r.fail(n, "want true or false")
	}
	return n.text == "true"
}

// time reads a time with its zone, as Unix seconds.
func (r *reader) time(n *node) unixtime.Seconds {
	s := r.string(n)
	if r.err != nil {
		return 0
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.fail(n, "%q is not a time with its zone, such as \"2026-12-04T18:00:00+01:00\"", s)
	} else if unixtime.Of(t) <= 0 {
		r.fail(n, "%q is long ago", s)
	}
	return unixtime.Of(t)
}

// span reads a span of time, as milliseconds.
func (r *reader) span(n *node) int64 {
	s := r.string(n)
	d, err := time.ParseDuration(s)
	if r.err == nil && (err != nil || d < time.Second) {
		r.fail(n, "%q is not a span of time such as 1h", s)
	}
	return d.Milliseconds()
}

// number reads a number.
func (r *reader) number(n *node) (v uint64) {
	if n.kind != word || strings.Trim(n.text, "0123456789") != "" {
		r.fail(n, "want a number")
		return 0
	}
	if _, err := fmt.Sscan(n.text, &v); err != nil {
		r.fail(n, "%s is no number: %v", n.text, err)
	}
	return v
}
