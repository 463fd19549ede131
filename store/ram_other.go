//go:build unix && !linux

package store

import "os"

// ramFile makes a nameless file in the directory for temporary files, which is in RAM on the
// systems that need it there.
func ramFile() (*os.File, error) { return namelessFile() }
