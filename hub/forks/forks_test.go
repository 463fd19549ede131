package forks

import (
	"fmt"
	"testing"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// mesh is a CA, and the trust that begins with it.
func mesh(t *testing.T, now time.Time) (*identity.CA, *identity.Trust) {
	t.Helper()
	m := identitytest.New(t, now)
	return m.CA, m.Trust
}

// evict returns a list that differs from those in which others are evicted.
func evict(t *testing.T, ca *identity.CA, trust *identity.Trust, user string, now time.Time) *identity.Trust {
	t.Helper()
	list, err := trust.Evict(ca, user, now)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestListsThatDifferAreKeptInSmallNumber(t *testing.T) {
	now := time.Now()
	ca, trust := mesh(t, now)
	own := evict(t, ca, trust, "bob", now)
	f := Forks{}
	for i := range Max + 3 {
		if f.Add(own, evict(t, ca, trust, fmt.Sprint("user", i), now).Document(), now) != (i < Max) {
			t.Errorf("list %d", i)
		}
	}
}

func TestListsOfACAThatHasRetiredTakeNoRoom(t *testing.T) {
	now := time.Now()
	ca, trust := mesh(t, now)
	next, err := ca.Successor(now)
	if err != nil {
		t.Fatal(err)
	}
	retires := now.Add(time.Hour)
	own, err := trust.Rotate(ca, next, retires, now)
	if err != nil {
		t.Fatal(err)
	}
	old := evict(t, ca, trust, "bob", now).Document()
	f := Forks{}
	if !f.Add(own, old, now) {
		t.Fatal("a list from before the rotation is not kept")
	}
	f.Settle(own, now)
	if len(f.Sums()) != 1 {
		t.Error("it is forgotten before the CA has retired")
	}
	f.Settle(own, retires)
	if len(f.Sums()) != 0 {
		t.Error("it is kept for nobody")
	}
	if f.Add(own, old, retires) {
		t.Error("one that comes when the CA has retired is kept")
	}
}
