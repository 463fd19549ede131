package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childJob) != "" {
		os.Exit(runChild())
	}
	os.Exit(appstest.Run(m))
}

// user is a value with everything that could point into the mapping.
type user struct {
	Name string
	Tags []string        `json:",omitempty"`
	Key  []byte          `json:",omitempty"`
	Raw  json.RawMessage `json:",omitempty"`
}

var users = NewTable[user]("users")

// kinds are the two ways in which a database can live, for tests that must hold for both.
var kinds = []struct {
	name string
	sys  system
}{
	{"mapped", system{mappable: mappable, disk: osDisk{}}},
	{"mirrored", unmappable},
}

// unmappable is a file system like JFFS2.
var unmappable = system{mappable: func(*os.File) bool { return false }, disk: osDisk{}}

// forKinds runs a test for every kind; open opens a database at a path.
func forKinds(t *testing.T, test func(t *testing.T, open func(path string, schema ...Migration) (*DB, error))) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			test(t, func(path string, schema ...Migration) (*DB, error) {
				return open(path, schema, Options{LockTimeout: 4 * lockPoll}, k.sys)
			})
		})
	}
}

// must opens a database and closes it at the end of the test.
func must(t testing.TB) func(db *DB, err error) *DB {
	return func(db *DB, err error) *DB {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
}

func put(t testing.TB, db *DB, key string, v user) {
	t.Helper()
	if err := db.Update(func(tx *Tx) error { return users.Put(tx, key, v) }); err != nil {
		t.Fatal(err)
	}
}

// content returns all users.
func content(t testing.TB, db *DB) map[string]user {
	t.Helper()
	all := map[string]user{}
	err := db.View(func(tx *Tx) error {
		return users.ForEach(tx, "", func(key string, v user) error { all[key] = v; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatWasPutIsThereAfterReopening(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		db := must(t)(open(path))
		want := map[string]user{}
		for i := range 100 {
			key := fmt.Sprintf("user/%03d", i)
			want[key] = user{Name: strings.Repeat("x", 5*i), Tags: []string{key}, Key: []byte{0, 255}}
			put(t, db, key, want[key])
		}
		if diff := cmp.Diff(want, content(t, db)); diff != "" {
			t.Errorf("before closing (-want +got):\n%s", diff)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = must(t)(open(path))
		if diff := cmp.Diff(want, content(t, db)); diff != "" {
			t.Errorf("after reopening (-want +got):\n%s", diff)
		}
	})
}

func TestKindsReadEachOthersFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	want := map[string]user{}
	for i := range 6 {
		db := must(t)(open(path, nil, Options{}, kinds[i%2].sys))
		if got := db.InMemory(); got != (i%2 == 1) {
			t.Errorf("%s: InMemory is %v", kinds[i%2].name, got)
		}
		key := fmt.Sprint(i)
		want[key] = user{Name: key}
		put(t, db, key, want[key])
		if diff := cmp.Diff(want, content(t, db)); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", i, diff)
		}
		db.Close()
	}
}

func TestTable(t *testing.T) {
	db := must(t)(OpenRAM(nil))
	err := db.Update(func(tx *Tx) error {
		for _, key := range []string{"b/2", "a/1", "b/10", "b", "c", "ä"} {
			if err := users.Put(tx, key, user{Name: key}); err != nil {
				return err
			}
		}
		return errors.Join(users.Delete(tx, "c"), users.Delete(tx, "never there"))
	})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"":   {"a/1", "b", "b/10", "b/2", "ä"},
		"b":  {"b", "b/10", "b/2"},
		"b/": {"b/10", "b/2"},
		"c":  nil,
		"z":  nil,
	} {
		var keys, names []string
		err := db.View(func(tx *Tx) (err error) {
			if keys, err = users.Keys(tx, prefix); err != nil {
				return err
			}
			return users.ForEach(tx, prefix, func(_ string, v user) error { names = append(names, v.Name); return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, keys); diff != "" {
			t.Errorf("Keys(%q) (-want +got):\n%s", prefix, diff)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("ForEach(%q) (-want +got):\n%s", prefix, diff)
		}
	}
}

func TestGetTellsAbsentFromZero(t *testing.T) {
	db := must(t)(OpenRAM(nil))
	numbers := NewTable[int]("numbers")
	check := func(tx *Tx, key string, want int, there bool) {
		t.Helper()
		if v, found, err := numbers.Get(tx, key); v != want || found != there || err != nil {
			t.Errorf("Get(%q) = %v, %v, %v; want %v, %v", key, v, found, err, want, there)
		}
	}
	db.View(func(tx *Tx) error { check(tx, "zero", 0, false); return nil })
	err := db.Update(func(tx *Tx) error {
		if err := numbers.Put(tx, "zero", 0); err != nil {
			return err
		}
		check(tx, "zero", 0, true)
		check(tx, "other", 0, false)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsGoneIsDeletedBelowAPrefixAlone(t *testing.T) {
	db := must(t)(OpenRAM(nil))
	var left []string
	err := db.Update(func(tx *Tx) error {
		for _, key := range []string{"a/1", "a/2", "a/3", "b/1"} {
			if err := users.Put(tx, key, user{Name: key}); err != nil {
				return err
			}
		}
		return users.DeleteFunc(tx, "a/", func(key string, v user) bool { return key != "a/2" && v.Name == key })
	})
	if err == nil {
		err = db.View(func(tx *Tx) (err error) { left, err = users.Keys(tx, ""); return err })
	}
	if diff := cmp.Diff([]string{"a/2", "b/1"}, left); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestForEachStopsAtAnError(t *testing.T) {
	db := must(t)(OpenRAM(nil))
	put(t, db, "a", user{})
	put(t, db, "b", user{})
	stop, calls := errors.New("stop"), 0
	err := db.View(func(tx *Tx) error {
		return users.ForEach(tx, "", func(string, user) error { calls++; return stop })
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("err %v after %d calls; want %v after 1", err, calls, stop)
	}
}

func TestFailedUpdateChangesNothing(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		db := must(t)(open(path))
		put(t, db, "bob", user{Name: "Bob"})
		before := fileOf(t, path)
		broken := errors.New("broken")
		err := db.Update(func(tx *Tx) error {
			return errors.Join(users.Put(tx, "eve", user{}), users.Delete(tx, "bob"), broken)
		})
		if !errors.Is(err, broken) {
			t.Errorf("Update returned %v", err)
		}
		if diff := cmp.Diff(map[string]user{"bob": {Name: "Bob"}}, content(t, db)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if fileOf(t, path) != before {
			t.Error("the file was written")
		}
	})
}

func TestUpdateThatChangesNothingWritesNothing(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		one := func(*Tx) error { return nil }
		db := must(t)(open(path, one))
		bob := user{Name: "Bob", Tags: []string{"a"}}
		put(t, db, "bob", bob)
		before := fileOf(t, path)
		put(t, db, "bob", bob)
		err := db.Update(func(tx *Tx) error { return users.Delete(tx, "never there") })
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		must(t)(open(path, one)).Close()
		if fileOf(t, path) != before {
			t.Error("the file was written")
		}
	})
}

func TestViewCannotWrite(t *testing.T) {
	db := must(t)(OpenRAM(nil))
	put(t, db, "bob", user{Name: "Bob"})
	err := db.View(func(tx *Tx) error {
		if users.Put(tx, "bob", user{}) == nil || users.Delete(tx, "bob") == nil {
			t.Error("a write in View succeeded")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]user{"bob": {Name: "Bob"}}, content(t, db)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestValuesOutliveTheDatabase(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		db := must(t)(open(filepath.Join(t.TempDir(), "agent.db")))
		want := user{Name: "Bob", Tags: []string{"tag"}, Key: []byte("key"), Raw: json.RawMessage(`{"raw":true}`)}
		put(t, db, "bob", want)
		got := content(t, db) // keys included: reading unmapped memory would be fatal
		db.Close()
		if diff := cmp.Diff(map[string]user{"bob": want}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestValueOfAnotherTypeIsAnErrorThatNamesIt(t *testing.T) {
	db := must(t)(OpenRAM(nil))
	put(t, db, "bob", user{Name: "Bob"})
	numbers := NewTable[int]("users")
	err := db.View(func(tx *Tx) error { _, _, err := numbers.Get(tx, "bob"); return err })
	if err == nil || !strings.Contains(err.Error(), "users") || !strings.Contains(err.Error(), "bob") || !strings.Contains(err.Error(), "another version") {
		t.Errorf("err is %v, want one that names table and key, and says why", err)
	}
}

func TestClosedDatabaseGivesErrors(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		db := must(t)(open(filepath.Join(t.TempDir(), "agent.db")))
		for range 2 {
			if err := db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		nothing := func(*Tx) error { return nil }
		if db.View(nothing) == nil || db.Update(nothing) == nil {
			t.Error("a transaction of a closed database succeeded")
		}
	})
}

func TestConcurrentUpdatesAreAllKept(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		db := must(t)(open(filepath.Join(t.TempDir(), "agent.db")))
		counters := NewTable[int]("counters")
		const workers, each = 4, 10
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					err := db.Update(func(tx *Tx) error {
						n, _, err := counters.Get(tx, "n")
						return errors.Join(err, counters.Put(tx, "n", n+1), counters.Put(tx, "m", n+1))
					})
					if err != nil {
						t.Error(err)
					}
					db.View(func(tx *Tx) error {
						n, _, _ := counters.Get(tx, "n")
						if m, _, _ := counters.Get(tx, "m"); m != n {
							t.Errorf("a reader saw half an update: %d and %d", n, m)
						}
						return nil
					})
				}
			})
		}
		wg.Wait()
		db.View(func(tx *Tx) error {
			if n, _, _ := counters.Get(tx, "n"); n != workers*each {
				t.Errorf("%d updates are left of %d", n, workers*each)
			}
			return nil
		})
	})
}

func TestRAMDatabaseLeavesNoFile(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	db := must(t)(OpenRAM([]Migration{func(tx *Tx) error { return users.Put(tx, "bob", user{Name: "Bob"}) }}))
	if !db.InMemory() {
		t.Error("InMemory is false")
	}
	if diff := cmp.Diff(map[string]user{"bob": {Name: "Bob"}}, content(t, db)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if left := list(t, os.TempDir()); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// fileOf says what would differ had the file been written or replaced.
func fileOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(info.ModTime().UnixNano(), string(b))
}

// list returns the names in a directory.
func list(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
