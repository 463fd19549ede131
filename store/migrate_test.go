package store

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stamp is a migration that leaves a user behind.
func stamp(name string) Migration {
	return func(tx *Tx) error { return users.Put(tx, name, user{Name: name}) }
}

func TestMigrationsRunOnceEach(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		runs := map[string]int{}
		count := func(name string) Migration {
			return func(tx *Tx) error { runs[name]++; return stamp(name)(tx) }
		}
		schema := []Migration{count("one"), count("two"), count("three")}
		for _, n := range []int{1, 1, 3, 3} {
			must(t)(open(path, schema[:n]...)).Close()
		}
		if diff := cmp.Diff(map[string]int{"one": 1, "two": 1, "three": 1}, runs); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		db := must(t)(open(path, schema...))
		if got := content(t, db); len(got) != 3 {
			t.Errorf("the migrations left %v", got)
		}
	})
}

func TestFailedMigrationLeavesTheFileAsItWas(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		must(t)(open(path, stamp("one"))).Close()
		before := fileOf(t, path)
		broken := errors.New("broken")
		_, err := open(path, stamp("one"), stamp("two"), func(*Tx) error { return broken })
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), path) {
			t.Errorf("err is %v", err)
		}
		if fileOf(t, path) != before {
			t.Error("the file was written")
		}
		db := must(t)(open(path, stamp("one"), stamp("two")))
		if got := content(t, db); len(got) != 2 {
			t.Errorf("the next attempt left %v", got)
		}
	})
}

func TestFileOfANewerVersionIsRefused(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		must(t)(open(path, stamp("one"), stamp("two"))).Close()
		before := fileOf(t, path)
		_, err := open(path, stamp("one"))
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("err is %v", err)
		}
		if fileOf(t, path) != before {
			t.Error("the file was written")
		}
	})
}
