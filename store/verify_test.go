package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
	"ztm/apps/appstest"

	"go.etcd.io/bbolt"
)

// image returns what a database looks like on disk after rounds of some hundred random changes;
// check gets to see it after each.
func image(t testing.TB, r *rand.Rand, rounds int, check func([]byte)) []byte {
	b, err := openCopy(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var w bytes.Buffer
	if err := b.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(&w); return err }); err != nil {
		t.Fatal(err)
	}
	keys := 50 + r.IntN(5000)
	for round := range rounds {
		err := b.Update(func(tx *bbolt.Tx) error {
			for range r.IntN(300) {
				table, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "table%d", r.IntN(3)))
				if err != nil {
					return err
				}
				key := fmt.Appendf(nil, "%0*d", 1+r.IntN(60), r.IntN(keys))
				if r.IntN(100) < 35+round%2*30 {
					err = table.Delete(key)
				} else {
					err = table.Put(key, make([]byte, r.IntN(1+r.IntN(3000))))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Reset()
		if err := b.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(&w); return err }); err != nil {
			t.Fatal(err)
		}
		check(w.Bytes())
	}
	return w.Bytes()
}

func verifyBytes(b []byte) error { return verify(bytes.NewReader(b), int64(len(b))) }

func TestVerifyAcceptsWhatBboltWrites(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		image(t, rand.New(rand.NewPCG(seed, 0)), 30, func(b []byte) {
			if err := verifyBytes(b); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		})
	}
}

// use reads everything in a database and changes much of it; it returns the new content. bbolt must
// survive that.
func use(t testing.TB, r *rand.Rand, content []byte) []byte {
	b, err := openCopy(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatalf("verified, but: %v", err)
	}
	defer b.Close()
	for range 4 {
		err := b.Update(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, table *bbolt.Bucket) error { return change(r, table) })
		})
		if err != nil {
			t.Logf("change: %v", err)
		}
	}
	var w bytes.Buffer
	if err := b.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(&w); return err }); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

func change(r *rand.Rand, table *bbolt.Bucket) error {
	var keys [][]byte
	table.ForEach(func(key, _ []byte) error { keys = append(keys, bytes.Clone(key)); return nil })
	var errs []error
	for _, key := range keys {
		switch r.IntN(4) {
		case 0:
			errs = append(errs, table.Delete(key))
		case 1:
			errs = append(errs, table.Put(key, make([]byte, r.IntN(500))))
		case 2:
			errs = append(errs, table.Put(append(key, 1), make([]byte, r.IntN(500))))
		}
	}
	return errors.Join(errs...)
}

// damage flips bits, overwrites or cuts, mostly where the structure is.
func damage(r *rand.Rand, b []byte) []byte {
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b))
		if r.IntN(3) > 0 {
			at = at/pageSize*pageSize + r.IntN(min(200, len(b)-at/pageSize*pageSize))
		}
		switch r.IntN(8) {
		case 0:
			b = b[:at+1]
		case 1:
			clear(b[at:min(at+pageSize, len(b))])
		case 2:
			copy(b[at/pageSize*pageSize:], b[r.IntN(len(b))/pageSize*pageSize:][:1])
		default:
			b[at] ^= 1 << r.IntN(8)
		}
	}
	if r.IntN(2) == 0 && len(b) > 2*pageSize { // let damage in a meta through to what lies behind it
		resum(b, 0)
		resum(b, pageSize)
	}
	return b
}

// What is damaged is either refused, or bbolt can work with it; it never panics, faults or hangs.
func TestNoDamageBringsTheProcessDown(t *testing.T) {
	appstest.Long(t)
	timeout := 5 * time.Second
	if testing.Short() {
		timeout = time.Second
	}
	end := time.Now().Add(timeout)
	path := filepath.Join(t.TempDir(), "agent.db")
	refused, accepted := 0, 0
	for seed := uint64(0); time.Now().Before(end); seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		whole := image(t, r, 1+r.IntN(4), func([]byte) {})
		for i := range 50 {
			damaged := damage(r, bytes.Clone(whole))
			verdict := verifyBytes(damaged)
			if i == 0 { // the whole way, once for each image: it waits for the disk
				openDamaged(t, path, damaged, verdict)
			}
			if verdict != nil {
				refused++
				continue
			}
			accepted++
			if err := verifyBytes(use(t, r, damaged)); err != nil {
				t.Fatalf("seed %d: damaged by its use: %v", seed, err)
			}
		}
	}
	t.Logf("%d refused, %d in working order", refused, accepted)
}

// openDamaged checks that Open agrees with the verdict of verify.
func openDamaged(t *testing.T, path string, content []byte, verdict error) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, nil, Options{})
	if verdict != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("verify says %v, Open says %v", verdict, err)
		}
		return
	}
	must(t)(db, err).Close()
}

func FuzzVerify(f *testing.F) {
	f.Add(image(f, rand.New(rand.NewPCG(0, 0)), 1, func([]byte) {}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2*pageSize {
			resum(b, 0)
			resum(b, pageSize)
		}
		if verifyBytes(b) == nil {
			use(t, rand.New(rand.NewPCG(0, 0)), b)
		}
	})
}
