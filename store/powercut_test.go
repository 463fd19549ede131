package store

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// flash is a disk that keeps account of what would be left on it, had the power failed after any of
// its operations. It knows what a running system hides: the content of a file is safe only after
// Sync, and a name only after syncDir.
type flash struct {
	osDisk
	safe    map[string]*inode         // by path: what is left in any case
	pending []func(map[string]*inode) // changes of names that may be left, the first n of them for any n
	cuts    []cut
	acked   int // updates that have returned
}

type inode struct{ written, synced []byte }

// cut is what may be found after a power cut.
type cut struct {
	when  string
	files map[string][]byte
	acked int
}

// record notes everything that a power cut could leave now.
func (f *flash) record(when string) {
	for n := range len(f.pending) + 1 {
		names := maps.Clone(f.safe)
		for _, change := range f.pending[:n] {
			change(names)
		}
		for _, unsynced := range []string{"lost", "half", "zeros"} {
			files := map[string][]byte{}
			for name, file := range names {
				files[name] = file.left(unsynced)
			}
			what := fmt.Sprintf("%s, %d changes of names safe, unsynced data %s", when, n, unsynced)
			f.cuts = append(f.cuts, cut{what, files, f.acked})
		}
	}
}

// left returns what of the file's content is left when its unsynced part meets the given fate.
func (i *inode) left(unsynced string) []byte {
	switch rest := i.written[len(i.synced):]; unsynced {
	case "half":
		return i.written[:len(i.synced)+len(rest)/2]
	case "zeros":
		return append(i.synced[:len(i.synced):len(i.synced)], make([]byte, len(rest))...)
	}
	return i.synced
}

func (f *flash) create(path string) (diskFile, error) {
	file, err := f.osDisk.create(path)
	if err != nil {
		return nil, err
	}
	i := &inode{}
	f.pending = append(f.pending, func(names map[string]*inode) { names[path] = i })
	f.record("created")
	return &flashFile{file, f, i}, nil
}

func (f *flash) rename(from, to string) error {
	f.pending = append(f.pending, func(names map[string]*inode) {
		names[to] = names[from]
		delete(names, from)
	})
	f.record("renamed")
	return f.osDisk.rename(from, to)
}

func (f *flash) syncDir(path string) error {
	for _, change := range f.pending {
		change(f.safe)
	}
	f.pending = nil
	f.record("directory synced")
	return f.osDisk.syncDir(path)
}

type flashFile struct {
	diskFile
	flash *flash
	inode *inode
}

func (f *flashFile) Write(b []byte) (int, error) {
	f.inode.written = append(f.inode.written, b...)
	f.flash.record("written")
	return f.diskFile.Write(b)
}

func (f *flashFile) Sync() error {
	f.inode.synced = f.inode.written
	f.flash.record("synced")
	return f.diskFile.Sync()
}

// An update that returned is there after any later power cut; one that did not is there as a whole
// or not at all.
func TestPowerCutLeavesTheOldOrTheNewState(t *testing.T) {
	f := &flash{safe: map[string]*inode{}}
	dir := t.TempDir()
	db := mirrored(t, filepath.Join(dir, "agent.db"), f)
	states := []map[string]user{{}}
	for i := range 4 {
		key := fmt.Sprint(i % 3)
		next := maps.Clone(states[i])
		next[key] = user{Name: fmt.Sprint("state ", i)}
		states = append(states, next)
		put(t, db, key, next[key])
		f.acked++
		f.record("returned")
	}
	db.Close()
	if len(f.cuts) < 100 {
		t.Fatalf("only %d power cuts to try", len(f.cuts))
	}
	for _, c := range f.cuts {
		found := recovered(t, dir, c.files)
		if c.acked < len(states)-1 && cmp.Equal(states[c.acked+1], found) {
			continue
		}
		if diff := cmp.Diff(states[c.acked], found); diff != "" {
			t.Fatalf("power cut after %d updates: %s (-want +got):\n%s", c.acked, c.when, diff)
		}
	}
}

// recovered returns what a database says that is opened on what a power cut has left in a
// directory.
func recovered(t *testing.T, dir string, files map[string][]byte) map[string]user {
	t.Helper()
	os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db := mirrored(t, filepath.Join(dir, "agent.db"), osDisk{})
	defer db.Close()
	if left := list(t, dir); len(left) != 1 {
		t.Fatalf("after opening, the directory holds %v", left)
	}
	return content(t, db)
}
