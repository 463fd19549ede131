package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDatabaseIsPrivate(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		check := func(when string) {
			t.Helper()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !isPrivate(info) {
				t.Errorf("%s the mode is %v", when, info.Mode())
			}
		}
		db := must(t)(open(path))
		check("when created")
		put(t, db, "bob", user{})
		check("when changed")
		db.Close()
		if err := os.Chmod(path, 0o664); err != nil {
			t.Fatal(err)
		}
		must(t)(open(path)).Close()
		check("after it was opened to others")
	})
}

func TestMissingDirectoryIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "agent.db")
	_, err := Open(path, nil, Options{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("err is %v", err)
	}
}

func TestDatabaseIsNotADirectory(t *testing.T) {
	path := t.TempDir()
	if _, err := Open(path, nil, Options{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("err is %v", err)
	}
}

// sample is the content of a file with tables of all sizes: inside the root, of some pages, and a
// tree of three levels.
func sample(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.db")
	db := must(t)(Open(path, []Migration{stamp("one")}, Options{}))
	many, deep := NewTable[string]("many"), NewTable[string]("deep")
	err := db.Update(func(tx *Tx) error {
		for n := range 100 {
			if err := deep.Put(tx, fmt.Sprintf("%0900d", n), ""); err != nil {
				return err
			}
		}
		for _, c := range "abcdefghijklmnopqrstuvwxyz" {
			for n := range 12 {
				if err := many.Put(tx, strings.Repeat(string(c), n*20+1), strings.Repeat("value", n*n)); err != nil {
					return err
				}
			}
		}
		return many.Put(tx, "large", strings.Repeat("x", 3*pageSize))
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resum makes the checksum of a meta right again.
func resum(b []byte, at int) {
	sum := fnv.New64a()
	sum.Write(b[at+headerSize:][:metaSumStart])
	binary.NativeEndian.PutUint64(b[at+headerSize+metaSumStart:], sum.Sum64())
}

// both writes a number into both metas.
func both(b []byte, offset int, value uint64) {
	for _, at := range []int{0, pageSize} {
		binary.NativeEndian.PutUint64(b[at+headerSize+offset:], value)
		resum(b, at)
	}
}

// tableRoots returns where, in the content of a file, the number of the root page of each table
// stands that has one.
func tableRoots(t testing.TB, b []byte) (at []int) {
	t.Helper()
	m, err := chooseMeta(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	root := page{flags: flagLeaf, data: b[m.root*pageSize:][:pageSize]}
	for i := range binary.NativeEndian.Uint16(root.data[10:]) {
		e, _ := root.element(int(i))
		if binary.NativeEndian.Uint64(e.value) != 0 {
			at = append(at, cap(b)-cap(e.value))
		}
	}
	if len(at) != 2 {
		t.Fatalf("%d tables have pages of their own, want 2", len(at))
	}
	return at
}

// cutBranch makes an empty leaf of the second child of a tree of three levels.
func cutBranch(t testing.TB, b []byte) []byte {
	order := binary.NativeEndian
	top := b[order.Uint64(b[tableRoots(t, b)[0]:])*pageSize:]
	child := b[order.Uint64(top[headerSize+elementSize+8:])*pageSize:][:pageSize]
	if order.Uint16(child[8:]) != flagBranch {
		t.Fatal("the tree is not deep enough")
	}
	key := order.Uint32(child[headerSize:]) // position and length move by one field, the value is empty
	length := order.Uint32(child[headerSize+4:])
	order.PutUint16(child[8:], flagLeaf)
	order.PutUint16(child[10:], 1)
	order.PutUint32(child[headerSize:], 0)
	order.PutUint32(child[headerSize+4:], key)
	order.PutUint32(child[headerSize+8:], length)
	order.PutUint32(child[headerSize+12:], 0)
	return b
}

// fresh is the content of a file that nothing was ever put into.
func fresh(t testing.TB) []byte {
	return image(t, rand.New(rand.NewPCG(0, 0)), 0, nil)
}

// chain adds a tree to a fresh file in which every branch has one child.
func chain(b []byte, depth int) []byte {
	order := binary.NativeEndian
	first := uint64(len(b) / pageSize)
	for i := range uint64(depth) {
		p := make([]byte, pageSize)
		order.PutUint64(p, first+i)
		order.PutUint16(p[8:], flagBranch)
		order.PutUint16(p[10:], 1)
		order.PutUint32(p[headerSize:], elementSize)
		order.PutUint32(p[headerSize+4:], 1)
		order.PutUint64(p[headerSize+8:], first+i+1)
		p[headerSize+elementSize] = 'k'
		if i+1 == uint64(depth) {
			order.PutUint16(p[8:], flagLeaf)
			order.PutUint16(p[10:], 0)
		}
		b = append(b, p...)
	}
	both(b, 16, first)
	both(b, 40, first+uint64(depth))
	return b
}

func TestDamagedFileIsRefused(t *testing.T) {
	order := binary.NativeEndian
	whole := sample(t)
	root, err := chooseMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	rootPage := int(root.root) * pageSize
	tests := []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"one byte", func([]byte) []byte { return []byte{0} }},
		{"text", func([]byte) []byte { return bytes.Repeat([]byte("this is no database\n"), 2000) }},
		{"SQLite", func([]byte) []byte { return append([]byte("SQLite format 3\x00"), make([]byte, 20000)...) }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"cut behind the first meta", func(b []byte) []byte { return b[:pageSize] }},
		{"cut within the second meta", func(b []byte) []byte { return b[:pageSize+40] }},
		{"both metas torn", func(b []byte) []byte { b[30]++; b[pageSize+30]++; return b }},
		{"page of zeros", func(b []byte) []byte { clear(b[rootPage:][:pageSize]); return b }},
		{"page in another's place", func(b []byte) []byte { order.PutUint64(b[rootPage:], 2); return b }},
		{"page of another kind", func(b []byte) []byte { order.PutUint16(b[rootPage+8:], flagFreelist); return b }},
		{"too many elements", func(b []byte) []byte { order.PutUint16(b[rootPage+10:], 60000); return b }},
		{"page runs over the end", func(b []byte) []byte { order.PutUint32(b[rootPage+12:], 1<<30); return b }},
		{"page runs into the next", func(b []byte) []byte { order.PutUint32(b[rootPage+12:], 1); return b[:rootPage+pageSize] }},
		{"key outside", func(b []byte) []byte { order.PutUint32(b[rootPage+headerSize+4:], 1<<31); return b }},
		{"value outside", func(b []byte) []byte { order.PutUint32(b[rootPage+headerSize+12:], 1<<31); return b }},
		{"key of no length", func(b []byte) []byte { order.PutUint32(b[rootPage+headerSize+8:], 0); return b }},
		{"value for a table", func(b []byte) []byte { order.PutUint32(b[rootPage+headerSize:], 0); return b }},
		{"page in two tables", func(b []byte) []byte { at := tableRoots(t, b); copy(b[at[0]:][:8], b[at[1]:]); return b }},
		{"branches of different height", func(b []byte) []byte { return cutBranch(t, b) }},
		{"branch without children", func(b []byte) []byte {
			order.PutUint16(b[order.Uint64(b[tableRoots(t, b)[0]:])*pageSize+10:], 0)
			return b
		}},
		{"key of no length in a small table", func(b []byte) []byte {
			at := bytes.LastIndex(b[rootPage:][:pageSize], []byte(`one{"Name":"one"}`)) + rootPage
			order.PutUint32(b[at-elementSize+8:], 0)
			return b
		}},
		{"tree that is too deep", func([]byte) []byte { return chain(fresh(t), maxDepth+1) }},
		{"free list of another kind", func([]byte) []byte { b := fresh(t); b[2*pageSize+8] = flagLeaf; return b }},
		{"free list that is not empty", func([]byte) []byte { b := fresh(t); b[2*pageSize+10] = 1; return b }},
		{"second meta in another place", func(b []byte) []byte { b[30]++; copy(b[1024:2048], b[pageSize:]); return b }},
		{"version of the format", func(b []byte) []byte { both(b, 4, 3|pageSize<<32); return b }},
		{"size of pages", func(b []byte) []byte { both(b, 8, 2*pageSize); return b }},
		{"root outside", func(b []byte) []byte { both(b, 16, 1<<40); return b }},
		{"root is a meta", func(b []byte) []byte { both(b, 16, 1); return b }},
		{"end outside", func(b []byte) []byte { both(b, 40, 1<<40); return b }},
		{"end before the beginning", func(b []byte) []byte { both(b, 40, 1); return b }},
		{"free list outside", func(b []byte) []byte { both(b, 32, 1<<40); return b }},
		{"free list in the tree", func(b []byte) []byte { both(b, 32, root.root); return b }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			damaged := test.damage(bytes.Clone(whole))
			forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
				path := filepath.Join(t.TempDir(), "agent.db")
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := open(path, stamp("one"))
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) ||
					!strings.Contains(err.Error(), "move the file away") {
					t.Errorf("err is %v", err)
				}
				if after, _ := os.ReadFile(path); !bytes.Equal(after, damaged) {
					t.Error("the file was written")
				}
			})
		})
	}
}

func TestFileTooLargeToMapIsRefused(t *testing.T) {
	if err := verify(bytes.NewReader(sample(t)), maxFile+1); err == nil {
		t.Error("it was taken")
	}
}

func TestFileWithOneTornMetaIsTheStateBefore(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		whole := sample(t)
		for _, at := range []int{0, pageSize} {
			path := filepath.Join(t.TempDir(), "agent.db")
			torn := bytes.Clone(whole)
			clear(torn[at+headerSize+20:][:30])
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			db := must(t)(open(path, stamp("one")))
			if got := content(t, db); len(got) != 1 {
				t.Errorf("users are %v", got)
			}
			put(t, db, "two", user{})
			db.Close()
			if got := content(t, must(t)(open(path, stamp("one")))); len(got) != 2 {
				t.Errorf("after a change, users are %v", got)
			}
		}
	})
}

func TestAnEmptyFileIsNotANewDatabase(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(t.TempDir(), "agent.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("got %v", err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != 0 {
			t.Errorf("it was changed: %v, %v", info, err)
		}
	})
}

func TestReplacedFileIsNotTheCurrentOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	db := must(t)(open(path, nil, Options{}, unmappable))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !current(f, path) {
		t.Error("the file is not the current one")
	}
	put(t, db, "bob", user{})
	if current(f, path) {
		t.Error("the file is still the current one after an update replaced it")
	}
}

func TestHalfCreatedFileIsRemovedAndAWholeOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	if err := os.WriteFile(path, make([]byte, pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	discardTorn(path)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file: %v", err)
	}
	must(t)(Open(path, []Migration{stamp("one")}, Options{})).Close()
	before := fileOf(t, path)
	discardTorn(path)
	if fileOf(t, path) != before {
		t.Error("a whole file was written")
	}
}

func TestADatabaseIsInUseWhileItIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	if InUse(path) {
		t.Error("it is in use before it is there")
	}
	db := must(t)(Open(path, []Migration{stamp("one")}, Options{}))
	if !InUse(path) {
		t.Error("it is open, and not in use")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if InUse(path) {
		t.Error("it is closed, and in use")
	}
}
