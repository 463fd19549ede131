//go:build darwin || freebsd

package run

import "os"

// self returns the path of this binary.
func self() (string, error) { return os.Executable() }
