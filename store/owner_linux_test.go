package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ztm/store/private"
)

func TestTheDatabaseOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give something away")
	}
	path := filepath.Join(t.TempDir(), "agent.db")
	must(t)(Open(path, nil, Options{})).Close()
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil, Options{}); !errors.Is(err, private.ErrOwner) {
		t.Errorf("open: %v", err)
	}
	if _, err := OpenCopy(path, nil); !errors.Is(err, private.ErrOwner) {
		t.Errorf("copy: %v", err)
	}
}
