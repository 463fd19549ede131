package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var pairTable = NewTable[int]("pairs")

// TestASnapshotIsOfOneMoment writes two rows in each transaction: no snapshot may have one of them.
func TestASnapshotIsOfOneMoment(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	db, err := Open(path, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer db.Close()
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			err := db.Update(func(tx *Tx) error {
				return errors.Join(pairTable.Put(tx, fmt.Sprint("a", i%50), i), pairTable.Put(tx, fmt.Sprint("b", i%50), i))
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	taken := 0
	for i := range 40 {
		b, err := Snapshot(path)
		if err != nil {
			continue // it is written to all the time
		}
		taken++
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(copied, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.View(func(tx *Tx) error {
			for k := range 50 {
				x, _, _ := pairTable.Get(tx, fmt.Sprint("a", k))
				y, _, _ := pairTable.Get(tx, fmt.Sprint("b", k))
				if x != y {
					t.Errorf("snapshot %d has %d and %d of one transaction", i, x, y)
				}
			}
			return nil
		})
		c.Close()
	}
	close(stop)
	wg.Wait()
	if _, err := Snapshot(path); err != nil {
		t.Errorf("when nobody writes: %v", err)
	}
	t.Logf("%d snapshots of a file that is written to without a pause", taken)
}

func TestASnapshotOfADamagedFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	for _, content := range [][]byte{nil, []byte("x"), make([]byte, 3*pageSize)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Snapshot(path); err == nil {
			t.Errorf("%d bytes were taken for a database", len(content))
		}
		if err := Replace(path, content, nil, Options{}, func(*DB) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes replaced a database: %v", len(content), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".restore-*")); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}
