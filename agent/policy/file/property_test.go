package file

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// someSource makes a policy at random, without patterns.
func someSource(r *rand.Rand) *policy.Source {
	s := &policy.Source{Mode: policy.Enforce, Users: map[string]policy.User{}, Groups: map[string]policy.Group{}, Endpoints: map[string]policy.Endpoint{}, Grants: []policy.Grant{}}
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	end := func() unixtime.Seconds { return unixtime.Seconds(r.IntN(2) * (1 + r.IntN(100))) }
	for _, u := range []string{"ann", "bob", "carol"} {
		s.Users[u] = policy.User{Until: end()}
	}
	for i := range 3 {
		s.Endpoints[fmt.Sprint("ep", i)] = policy.Endpoint{ID: identity.ID(fmt.Sprintf("abcdefghijklmnopqrstuvwxyzabcde%c", 'a'+i)), Labels: []string{pick("x", "y")}}
	}
	s.Groups["ops"] = policy.Group{Members: []policy.Member{{User: pick("ann", "bob", "carol"), Added: 1, Until: end()}}}
	for i := range r.IntN(4) {
		w := policy.Who{Name: pick("*", "ann", "bob", "carol", "group:ops")}
		if apps.IsUser(w.Name) {
			w.Added = 1
		}
		s.Grants = append(s.Grants, policy.Grant{Name: fmt.Sprint("g", i), Who: []policy.Who{w}, To: []string{pick("tunnel", "tunnel/tcp/db", "terminal")},
			At: []string{pick("*", "ep0", "ep1", "label:x")}, From: []string{policy.Anybody}, Until: end()})
	}
	return s
}

// has reports whether some changes have a right, as it is or as a part of a wider one.
func has(all []Change, user, to, at string) bool {
	return slices.ContainsFunc(all, func(c Change) bool {
		return (c.User == user || c.User == policy.Anybody) && (c.To == to || c.To == "tunnel" && to == "tunnel/tcp/db") && (c.At == at || c.At == policy.Anybody)
	})
}

func TestADifferenceIsWhatEndpointsDecideOtherwise(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 2))
		old, next, now := someSource(r), someSource(r), unixtime.Seconds(r.IntN(110)+1)
		next.Endpoints = old.Endpoints
		for _, s := range []*policy.Source{old, next} {
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		}
		d, err := Diff(old, next, now)
		if err != nil {
			t.Fatal(err)
		}
		for ep, e := range old.Endpoints {
			before, after := rightsFor(old.Cutter(), e.ID), rightsFor(next.Cutter(), e.ID)
			for _, user := range []string{"ann", "bob", "carol"} {
				for _, to := range [][2]string{{"tunnel", "tcp/db"}, {"terminal", "shell"}} {
					p, target := apps.Peer{User: user}, to[0]
					if to[1] == "tcp/db" {
						target = "tunnel/tcp/db"
					}
					had, gets := before.Decide(p, to[0], to[1], now).Allow, after.Decide(p, to[0], to[1], now).Allow
					if gets && !had && !has(d.Gains, user, target, ep) {
						t.Errorf("seed %d: %s gains %s at %s, and the difference has %+v", seed, user, target, ep, d.Gains)
					}
					if had && !gets && !has(d.Losses, user, target, ep) {
						t.Errorf("seed %d: %s loses %s at %s, and the difference has %+v", seed, user, target, ep, d.Losses)
					}
				}
			}
		}
	}
}

func TestAPolicyIsTheSameAfterItWasAFile(t *testing.T) {
	for seed := range uint64(250) {
		r := rand.New(rand.NewPCG(seed, 6))
		s := someSource(r)
		s.Mode, s.Direct = []string{policy.Enforce, policy.Observe}[r.IntN(2)], []string{"", policy.DirectLAN, policy.DirectOff}[r.IntN(3)]
		s.Groups["empty"] = policy.Group{Members: []policy.Member{}, Notify: r.IntN(2) == 0, Visible: []string{"", "root"}[r.IntN(2)], Max: int64(r.IntN(3) * 90_000)}
		s.Users["no"], s.Users["17"], s.Users["a.b"] = policy.User{}, policy.User{}, policy.User{Until: unixtime.Seconds(1 + r.Int64N(1<<35))}
		for i := range s.Grants {
			s.Grants[i].From = [][]string{{"*"}, {"ep0", "label:x+y"}}[r.IntN(2)]
		}
		b, err := Write(s, seed)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Read(b)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, b)
		}
		again, err := f.Source(s, 99)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, b)
		}
		if diff := cmp.Diff(s, again); diff != "" || f.Base != seed {
			t.Fatalf("seed %d: base %d (-before +after):\n%s", seed, f.Base, diff)
		}
		if twice, err := Write(again, seed); err != nil || !bytes.Equal(twice, b) {
			t.Fatalf("seed %d: written again it is\n%s\nand before\n%s, %v", seed, twice, b, err)
		}
	}
}
