// Package bisect stands in for Go 1.26's internal/bisect in binaries where size counts.
// internal/godebug, the only package that uses it, asks it whether a setting with a pattern,
// GODEBUG=name=value#pattern, is meant for the place that asks: so a program of Google's finds the
// place where a new release of Go changes what a program does. Here such a setting is meant for
// every place.
//
// It is our own, and has only what internal/godebug's source mentions.
package bisect

// Writer is what places are written to.
type Writer interface {
	Write([]byte) (int, error)
}

// Matcher is a pattern.
type Matcher struct{}

// New returns no pattern, whatever is given.
func New(string) (*Matcher, error) { return nil, nil }

// Stack reports that every place is meant.
func (*Matcher) Stack(Writer) bool { return true }
