//go:build !(linux || darwin || freebsd)

package rooted

import (
	"os"
	"path/filepath"
)

// move renames between two directories, by their paths: these systems have no other way.
func move(from *os.Root, name string, to *os.Root, as string) error {
	return os.Rename(filepath.Join(from.Name(), name), filepath.Join(to.Name(), as))
}
