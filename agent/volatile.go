package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"ztm/store"
	"ztm/store/private"
)

// openState opens the database in the data directory, making both. On a file system that is
// read-only it works in RAM with what the database says, with a warning: changes are lost when the
// agent ends. If there is no database, the device is a new one after each start, unless it is told
// to join then.
func openState(c Config) (*store.DB, error) {
	path := filepath.Join(c.Data, "agent.db")
	err := private.Dir(c.Data)
	if err != nil {
		err = fmt.Errorf("data directory: %w", err)
	} else if db, openErr := store.Open(path, schema(), store.Options{Log: c.Log}); openErr == nil {
		return db, nil
	} else {
		err = openErr
	}
	if !errors.Is(err, syscall.EROFS) {
		return nil, err
	}
	db, err := store.OpenCopy(path, schema())
	if err != nil {
		return nil, err
	}
	lost := "changes are lost when the agent ends"
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		lost = "keys and memberships are lost when the agent ends"
	}
	c.Log.Warn("the data directory is read-only: "+lost, "data", c.Data)
	return db, nil
}
