//go:build !windows

package state

import (
	"fmt"
	"os"
)

// syncDir makes a rename in a directory survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("root permit: %w", err)
	}
	defer d.Close()
	d.Sync() // some file systems cannot do that
	return nil
}
