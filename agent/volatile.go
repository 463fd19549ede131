package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"ztm/store"
)

// openState opens the database in the data directory, making both. On a file system that is read-only it opens one in RAM, with a
// warning: the device is a new one after each start then, unless it is told to join at its start.
func openState(c Config) (*store.DB, error) {
	err := privateDir(c.Data)
	if err == nil {
		var db *store.DB
		if db, err = store.Open(filepath.Join(c.Data, "agent.db"), schema(), store.Options{Log: c.Log}); err == nil {
			return db, nil
		}
	}
	if !errors.Is(err, syscall.EROFS) {
		return nil, err
	}
	c.Log.Warn("the data directory is read-only: keys and memberships are lost when the agent ends", "data", c.Data, "err", err)
	return store.OpenRAM(schema())
}

// privateDir makes the directory, or makes it private. The socket of the local API lies in it: the directory is what keeps
// others out.
func privateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
