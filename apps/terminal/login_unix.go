//go:build unix

package terminal

import "path/filepath"

// loginName is the name by which a shell knows that it is the first of a session: with a dash.
func loginName(path string) string { return "-" + filepath.Base(path) }
