package directory

import (
	"path/filepath"
	"testing"
	"time"

	"ztm/store"
	"ztm/tunnel/identity"
)

func TestOfTwoEndpointsOfOneUserTheLaterHasTheName(t *testing.T) {
	db, err := store.Open(filepath.Join(t.TempDir(), "hub.db"), nil, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	admitted := time.Unix(1_800_000_000, 0)
	record := func(id identity.ID) identity.Record { return identity.Record{ID: id, Name: "laptop", Time: 1} }
	subject := func(id identity.ID, user string, at time.Time) identity.Subject {
		return identity.Subject{Role: identity.RoleMember, ID: id, User: user, Admitted: at}
	}
	for name, tt := range map[string]struct {
		user string
		at   time.Time
		wins bool
	}{
		"later, the same user":   {"bob", admitted.Add(time.Hour), true},
		"earlier, the same user": {"bob", admitted.Add(-time.Hour), false},
		"later, another":         {"eve", admitted.Add(time.Hour), false},
		"earlier, another":       {"eve", admitted.Add(-time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Open(db, Limits{Endpoints: 10, OfUser: 10, PageBytes: 1 << 20, NameKept: time.Hour, NamesOfUser: 10}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() { defer close(stopped); d.Run(stop) }() // awaited below
			defer func() { close(stop); <-stopped }()
			if err := d.Put([]byte("old"), record("old"), subject("old", "bob", admitted)); err != nil {
				t.Fatal(err)
			}
			holder, err := d.Learn([]byte("new"), record("new"), subject("new", tt.user, tt.at))
			if err != nil || (holder == "") != tt.wins {
				t.Errorf("the name stays with %q, %v", holder, err)
			}
			if _, err := d.Remove(false, func(identity.Subject) bool { return true }); err != nil {
				t.Fatal(err)
			}
		})
	}
}
