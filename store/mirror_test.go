package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mirrored opens a mirrored database at a path.
func mirrored(t testing.TB, path string, d disk) *DB {
	t.Helper()
	return must(t)(open(path, nil, Options{}, system{mappable: unmappable.mappable, disk: d}))
}

func TestLeftoverOfAPowerCutIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	closed := mirrored(t, path, osDisk{})
	put(t, closed, "bob", user{})
	if err := os.WriteFile(path+".new", []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	mirrored(t, filepath.Join(filepath.Dir(path), "other.db"), osDisk{})
	if got := list(t, filepath.Dir(path)); !slices.Contains(got, "agent.db.new") {
		t.Errorf("another database removed it: %v", got)
	}
	closed.Close()
	if got := content(t, mirrored(t, path, osDisk{})); len(got) != 1 {
		t.Errorf("users are %v", got)
	}
	if got := list(t, filepath.Dir(path)); slices.Contains(got, "agent.db.new") {
		t.Errorf("it is still there: %v", got)
	}
}

func TestReplacementFollowsALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "flash.db"), filepath.Join(dir, "agent.db")
	if err := os.Symlink(target, link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	for i := range 2 {
		db := mirrored(t, link, osDisk{})
		put(t, db, fmt.Sprint(i), user{})
		db.Close()
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if got := contentOf(t, target); len(got) != 2 {
		t.Errorf("the file it leads to says %v", got)
	}
}

// faultyDisk fails at one of its operations, with no effect or after it took effect.
type faultyDisk struct {
	osDisk
	step  string // which fails; "" for none
	after bool   // it takes effect first
}

var errDisk = errors.New("disk error")

func (d *faultyDisk) do(step string, action func() error) error {
	if d.step != step {
		return action()
	}
	if d.after {
		action()
	}
	return errDisk
}

func (d *faultyDisk) create(path string) (f diskFile, err error) {
	err = d.do("create", func() (err error) { f, err = d.osDisk.create(path); return err })
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faultyDisk) rename(from, to string) error {
	return d.do("rename", func() error { return d.osDisk.rename(from, to) })
}

func (d *faultyDisk) syncDir(path string) error {
	return d.do("sync directory", func() error { return d.osDisk.syncDir(path) })
}

type faultyFile struct {
	diskFile
	disk *faultyDisk
}

func (f *faultyFile) Write(b []byte) (n int, err error) {
	err = f.disk.do("write", func() (err error) { n, err = f.diskFile.Write(b); return err })
	return n, err
}

func (f *faultyFile) Sync() error { return f.disk.do("sync", f.diskFile.Sync) }
func (f *faultyFile) lock() error { return f.disk.do("lock", f.diskFile.lock) }

func TestDiskErrorLeavesTheStateBefore(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "lock", "rename", "sync directory"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", step, after), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "agent.db")
				d := &faultyDisk{}
				db := mirrored(t, path, d)
				put(t, db, "bob", user{Name: "Bob"})
				want := map[string]user{"bob": {Name: "Bob"}}

				d.step, d.after = step, after
				eve := user{Name: "Eve"}
				err := db.Update(func(tx *Tx) error { return users.Put(tx, "eve", eve) })
				if !errors.Is(err, errDisk) {
					t.Errorf("Update returned %v", err)
				}
				if step == "sync directory" || step == "rename" && after {
					want["eve"] = eve // the file was replaced, and readers see what the file says
				}
				if diff := cmp.Diff(want, content(t, db)); diff != "" {
					t.Errorf("readers see (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
					t.Errorf("the file says (-want +got):\n%s", diff)
				}

				d.step = ""
				put(t, db, "carol", user{Name: "Carol"})
				want["carol"] = user{Name: "Carol"}
				if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
					t.Errorf("after the next update (-want +got):\n%s", diff)
				}
				if got := list(t, filepath.Dir(path)); len(got) != 1 {
					t.Errorf("the directory holds %v", got)
				}
			})
		}
	}
}

func TestNewFileIsSafeBeforeItIsUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	sys := system{mappable: mappable, disk: &faultyDisk{step: "sync directory"}}
	if _, err := open(path, nil, Options{}, sys); !errors.Is(err, errDisk) {
		t.Errorf("err is %v", err)
	}
	must(t)(open(path, nil, Options{}, sys)) // the next attempt finds a file
}

// contentOf returns all users in the file, beside whoever has it open.
func contentOf(t testing.TB, path string) map[string]user {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyBytes(b); err != nil {
		t.Fatal(err)
	}
	copied, err := openCopy(bytes.NewReader(b), int64(len(b)))
	return content(t, must(t)(&DB{bolt: copied}, err))
}
