package spec

import (
	"fmt"
	"net/url"
	"strings"
)

// maxChecked bounds the ports that one outbound checks, each with a connection every few seconds.
const maxChecked = 128

// Check is how an outbound finds out, all the time, whether its targets are up: "tcp" connects to
// them, "http:/path" also asks for a page and wants a status from 200 to 399. Each port of a range
// is checked on its own. The empty value means that it learns from the flows alone.
type Check string

const httpCheck = "http:"

// Validate returns an error if the check is none of those.
func (c Check) Validate() error {
	if c == "" || c == TCP {
		return nil
	}
	path, ok := strings.CutPrefix(string(c), httpCheck)
	if !ok || !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%q is not tcp or http:/PATH", string(c))
	}
	if _, err := url.ParseRequestURI(path); err != nil {
		return fmt.Errorf("%q: %q is not a path", string(c), path)
	}
	return nil
}

// HTTPPath returns the path to ask for, if the check asks for one.
func (c Check) HTTPPath() (string, bool) { return strings.CutPrefix(string(c), httpCheck) }
