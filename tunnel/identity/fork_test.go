package identity

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/unixtime"
)

// evictions makes a sorted list of evictions of few users and IDs, so that lists overlap.
func someEvictions(r *rand.Rand, ids []ID) []eviction {
	var all []eviction
	for range r.IntN(6) {
		e := eviction{Admitted: unixtime.Seconds(1 + r.Int64N(4)), note: note{At: unixtime.Seconds(r.Int64N(3)), By: ids[r.IntN(len(ids))]}}
		if r.IntN(2) == 0 {
			e.User = fmt.Sprint("user", r.IntN(4))
		} else {
			e.ID, e.Hub = ids[r.IntN(len(ids))], r.IntN(2) == 0
		}
		all = unite(all, []eviction{e})
	}
	return all
}

func TestTheUnionOfEvictionsIsASemilatticeAndLosesNone(t *testing.T) {
	ids := []ID{newDevice(t).id, newDevice(t).id, newDevice(t).id}
	holds := func(seed uint64) bool {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b, c := someEvictions(r, ids), someEvictions(r, ids), someEvictions(r, ids)
		ab := unite(a, b)
		l := list{Evictions: ab}
		return cmp.Equal(ab, unite(b, a), cmp.AllowUnexported(eviction{})) &&
			cmp.Equal(unite(ab, c), unite(a, unite(b, c)), cmp.AllowUnexported(eviction{})) &&
			cmp.Equal(unite(ab, ab), ab, cmp.AllowUnexported(eviction{})) &&
			contains(ab, a) && contains(ab, b) && l.checkEvictions() == nil
	}
	if err := quick.Check(holds, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

func TestAListThatLacksAnEvictionIsRefused(t *testing.T) {
	m := newMesh(t)
	bob := must(m.trust.Evict(m.ca, "bob", start))(t)
	other := must(m.trust.Evict(m.ca, "mallory", start))(t)
	longer := must(other.Evict(m.ca, "trudy", start))(t)
	earlier := must(m.trust.EvictAll(m.ca, start.Add(-time.Hour), Eviction{User: "bob", Admitted: start.Add(-time.Hour)}))(t)
	earlier = must(earlier.Evict(m.ca, "carol", start))(t)
	for name, tt := range map[string]struct{ own, doc *Trust }{
		"of the same version":   {bob, other},
		"of a later version":    {bob, longer},
		"of an earlier version": {longer, bob},
		"with an earlier time":  {bob, earlier},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.own.Update(tt.doc.Document())
			wantError(t, err, ErrFork, "two trust lists of this mesh differ")
			if got != nil {
				t.Errorf("it gives version %d", got.Version())
			}
		})
	}
}

func TestAHolderOfTheCAUnitesTwoListsUnderALaterVersion(t *testing.T) {
	m := newMesh(t)
	one := must(m.trust.Evict(m.ca, "bob", start))(t)
	fork := must(must(m.trust.Evict(m.ca, "carol", start.Add(time.Minute)))(t).Evict(m.ca, "bob", start.Add(time.Hour)))(t)
	for name, united := range map[string]*Trust{
		"from the one":   must(one.Unite(m.ca, start.Add(day), fork.Document()))(t),
		"from the other": must(fork.Unite(m.ca, start.Add(day), one.Document(), nil, fork.Document()))(t),
	} {
		if !united.Holds(one) || !united.Holds(fork) {
			t.Errorf("%s: %v", name, united.Evictions())
		}
		for _, old := range []*Trust{m.trust, one, fork} {
			if _, err := old.Update(united.Document()); err != nil {
				t.Errorf("%s, at version %d: %v", name, old.Version(), err)
			}
		}
	}
	if got := must(fork.Unite(m.ca, start, m.trust.Document()))(t); got != fork {
		t.Errorf("with nothing new it makes version %d", got.Version())
	}
}

func TestOfTwoListsOfOneVersionAllDevicesEndAtTheSame(t *testing.T) {
	m := newMesh(t)
	bob := must(m.trust.Evict(m.ca, "bob", start))(t)
	both := must(m.trust.EvictAll(m.ca, start, Eviction{User: "bob", Admitted: start}, Eviction{User: "carol"}))(t)
	if got := must(bob.Update(both.Document()))(t); !got.Holds(both) {
		t.Error("the list with more evictions does not count")
	}
	_, err := both.Update(bob.Document())
	wantError(t, err, ErrRollback, "version 1")

	again := must(m.trust.Evict(m.ca, "bob", start, start))(t) // issued at another time, and nothing else
	again = must(m.trust.open(signList(t, func() list { l := again.list.clone(); l.Issued++; return l }(), m.ca)))(t)
	_, one := bob.Update(again.Document())
	_, two := again.Update(bob.Document())
	if (one == nil) == (two == nil) {
		t.Errorf("of equal lists, %v and %v", one, two)
	}
}

func TestListsOfARotationAndOfAnEvictionAreUnited(t *testing.T) {
	m := newMesh(t)
	ca2 := must(m.ca.Successor(start))(t)
	retire := start.Add(day)
	rotated := must(m.trust.Rotate(m.ca, ca2, retire, start))(t)
	bob := must(m.trust.Evict(m.ca, "bob", start))(t)
	_, err := bob.Update(rotated.Document())
	wantError(t, err, ErrFork, "")
	_, err = rotated.Update(bob.Document())
	wantError(t, err, ErrFork, "")
	for name, own := range map[string]*Trust{"rotated": rotated, "evicted": bob} {
		united := must(own.Unite(ca2, start, rotated.Document(), bob.Document()))(t)
		if united.Newest() != ca2.ID() || !united.Voids("bob", start) {
			t.Errorf("%s: newest CA %s, evictions %v", name, united.Newest(), united.Evictions())
		}
	}
	_, err = rotated.Unite(ca2, retire, bob.Document())
	wantError(t, err, ErrExpired, "replaced") // its key may be in other hands since
	if !rotated.Unites(bob.Document(), start) || rotated.Unites(bob.Document(), retire) {
		t.Error("the list of a CA is one to unite until the CA retires")
	}
}

func TestTwoRotationsAreRefusedLoudly(t *testing.T) {
	m := newMesh(t)
	one := must(m.trust.Rotate(m.ca, must(m.ca.Successor(start))(t), start.Add(day), start))(t)
	ca2 := must(m.ca.Successor(start))(t)
	two := must(must(m.trust.Rotate(m.ca, ca2, start.Add(day), start))(t).Evict(ca2, "bob", start))(t)
	_, err := one.Update(two.Document())
	wantError(t, err, ErrUntrusted, "two CAs were put in the place of one")
	_, err = two.Unite(ca2, start, one.Document())
	wantError(t, err, ErrUntrusted, "two CAs were put in the place of one")
}

func TestOneEndpointIsEvictedAndTheOthersOfItsUserAreNot(t *testing.T) {
	m := newMesh(t)
	lost, kept := m.member(t, "bob", start), m.member(t, "bob", start)
	hub, hub2 := m.hub(t, start), m.hub(t, start)
	m.trust = must(m.trust.EvictAll(m.ca, start.Add(time.Minute),
		Eviction{ID: lost.id, Name: "phone", Owner: "bob", At: start, By: kept.id, Reason: "stolen"}, Eviction{ID: hub.id, Hub: true}))(t)
	_, err := m.trust.Verify(lost.cert(t), RoleMember, start)
	wantError(t, err, ErrEvicted, "endpoint "+string(lost.id)+" was evicted")
	_, err = m.trust.Verify(hub.cert(t), RoleHub, start)
	wantError(t, err, ErrEvicted, "hub "+string(hub.id)+" was evicted")
	for _, d := range []struct {
		device
		role Role
	}{{kept, RoleMember}, {hub2, RoleHub}} {
		if _, err := m.trust.Verify(d.cert(t), d.role, start); err != nil {
			t.Error(err)
		}
	}
	again := lost
	again.der = must(m.ca.SignMember(lost.public(), "bob", m.trust.Admission("bob", start, lost.id), start))(t)
	if _, err := m.trust.Verify(again.cert(t), RoleMember, start); err != nil {
		t.Errorf("invited again: %v", err)
	}
	i := slices.IndexFunc(m.trust.Evictions(), func(e Eviction) bool { return e.ID == lost.id })
	if e := m.trust.Evictions()[i]; e.Name != "phone" || e.Owner != "bob" || e.Reason != "stolen" || !e.At.Equal(start) || e.By != kept.id {
		t.Errorf("people read %+v", e)
	}
}

func TestNotesMakeRoomForEvictions(t *testing.T) {
	m := newMesh(t)
	by := newDevice(t).id
	l := list{Mesh: m.ca.mesh, Version: 1, Issued: unixtime.Of(start), CAs: []listCA{{Certificate: m.ca.cert.Raw}}}
	for i := range maxEvictions - 1 {
		l.Evictions = append(l.Evictions, eviction{User: fmt.Sprintf("user-%025d", i), Admitted: 1})
	}
	large := must(m.trust.Update(signList(t, l, m.ca)))(t)
	for i := range large.list.Evictions {
		large.list.Evictions[i].note = note{At: 1, By: by, Reason: string(bytes.Repeat([]byte("x"), MaxReason))}
	}
	got, err := large.EvictAll(m.ca, start, Eviction{User: "zoe"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Evictions()) != maxEvictions || !got.Voids("zoe", start) || len(got.Document()) > MaxTrust {
		t.Errorf("%d evictions in %d bytes", len(got.Evictions()), len(got.Document()))
	}
}
