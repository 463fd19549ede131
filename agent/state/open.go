package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"ztm/store"
	"ztm/store/private"
)

// Open opens the database in the data directory, making both. On a file system that is read-only it
// works in RAM with what the database says, with a warning: changes are lost when the
// agent ends. If there is no database, the device is a new one after each start, unless it is told
// to join then.
func Open(data string, log *slog.Logger) (*store.DB, error) {
	path := filepath.Join(data, "agent.db")
	err := private.Dir(data)
	if err != nil {
		err = fmt.Errorf("data directory: %w: choose another with --data", err)
	} else if db, openErr := store.Open(path, schema(), store.Options{Log: log}); openErr == nil {
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
	log.Warn("the data directory is read-only: "+lost, "data", data)
	return db, nil
}
