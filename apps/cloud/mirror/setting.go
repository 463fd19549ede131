package mirror

import (
	"errors"
	"slices"
	"strings"
)

// Setting is what a person has said of a mirror: a path that is kept in step with what is published.
type Setting struct {
	Download bool     `json:"download"`
	Upload   bool     `json:"upload"`            // of this user's own tree alone
	Include  Patterns `json:"include,omitempty"` // empty is all
	Exclude  Patterns `json:"exclude,omitempty"` // of those
	Limit    int64    `json:"limit,omitempty"`   // bytes a second that it fetches; zero is no limit
	Mark     Mark     `json:"mark"`

	// Selective mirrors fetch new versions of the files that are here, and no others.
	Selective bool `json:"selective,omitempty"`
}

// Check returns what is wrong with the patterns.
func (s Setting) Check() error {
	if slices.ContainsFunc(s.Include, func(p string) bool { return strings.HasPrefix(p, "!") }) {
		return errors.New("a pattern that includes does not begin with !: leave out by --exclude")
	}
	return errors.Join(s.Include.Check(), s.Exclude.Check())
}

// Change changes a [Setting], and makes a mirror if there is none; nil stays. Without a direction
// the mirror ends, and all files stay.
type Change struct {
	Path     string    `json:"path"`
	Download *bool     `json:"download,omitempty"`
	Upload   *bool     `json:"upload,omitempty"`
	Include  *Patterns `json:"include,omitempty"`
	Exclude  *Patterns `json:"exclude,omitempty"`
	Limit    *int64    `json:"limit,omitempty"`
	Confirm  bool      `json:"confirm,omitempty"` // the deletions that are held
	DryRun   bool      `json:"dryRun,omitempty"`  // tell what would be done

	Selective *bool `json:"selective,omitempty"`
}

// Apply makes the change.
func (c Change) Apply(s *Setting) {
	set(&s.Download, c.Download)
	set(&s.Upload, c.Upload)
	set(&s.Include, c.Include)
	set(&s.Exclude, c.Exclude)
	set(&s.Limit, c.Limit)
	set(&s.Selective, c.Selective)
}

func set[T any](v, to *T) {
	if to != nil {
		*v = *to
	}
}
