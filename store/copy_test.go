package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestACopyHasWhatTheFileSaysAndLeavesItAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	db := must(t)(Open(path, nil, Options{}))
	put(t, db, "bob", user{Name: "Bob"})
	db.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := must(t)(OpenCopy(path, nil))
	defer c.Close()
	if got := content(t, c); got["bob"].Name != "Bob" {
		t.Errorf("got %+v", got)
	}
	put(t, c, "alice", user{Name: "Alice"})
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file has changed, %v", err)
	}
}

func TestACopyOfNoFileIsEmptyAndOneOfADamagedFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	must(t)(OpenCopy(path, nil)).Close()
	for name, content := range map[string]string{"empty": "", "damaged": "not a database"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if db, err := OpenCopy(path, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, %v", name, db, err)
		}
	}
}
