package state

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/limits"
	"ztm/store"
)

func TestKnownNamesHaveALimitAndGoWithTheMesh(t *testing.T) {
	db, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := NewBook(db, "demo", authority.Row{})
	count := func() (n int) {
		err := db.View(func(tx *store.Tx) error {
			return nameTable.ForEach(tx, "demo/", func(string, api.KnownName) error { n++; return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	err = db.Update(func(tx *store.Tx) error {
		for i := range limits.KnownNames {
			if err := nameTable.Put(tx, fmt.Sprintf("demo/n%d", i), api.KnownName{User: "alice", Since: time.Unix(int64(i+1), 0)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pin := func(name string) (known bool) {
		t.Helper()
		_, known, err := b.Pin(name, api.KnownName{User: "alice", Since: time.Now()}, func(api.KnownName) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return known
	}
	if pin("new") || !pin("new") {
		t.Error("a new name is not remembered")
	}
	if n := count(); n != limits.KnownNames {
		t.Errorf("%d names, want %d", n, limits.KnownNames)
	}
	if !pin("n1") || pin("n0") {
		t.Error("the name that went is not the one that was longest known")
	}
	if err := b.Forget(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d names after the mesh was left", n)
	}
}
