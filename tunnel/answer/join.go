package answer

import (
	"slices"
	"strings"
)

// Join is [errors.Join] on one line: what is said of several hubs or peers goes into tables, into
// brackets, and behind the name of a mesh. What two say is said once.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return joined(errs)
}

type joined []error

func (j joined) Error() string {
	var texts []string
	for _, err := range j {
		if text := err.Error(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }
