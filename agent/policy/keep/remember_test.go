package keep

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ztm/tunnel/answer"
	signed "ztm/tunnel/identity/policy"
)

// restart ends a node and starts it from what is on its disk.
func (n *node) restart() {
	n.stop()
	n.start(n.State)
}

// ends gives the access of a user an end.
func ends(user string, until int64) func(*signed.Source) error {
	return func(s *signed.Source) error {
		s.Users[user] = signed.User{Until: until}
		return nil
	}
}

func TestAChangeThatWasLostIsMadeAgainAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two := m.join("root", "root"), m.join("spare", "root")
		one.lets("x")
		one.propose(put(0, "first"))
		eventually(t, "both have the first version", func() bool { return two.Head() != nil })
		one.reached(false)
		later := time.Now().Add(24 * time.Hour).Unix()
		one.propose(put(0, "a", "b"))
		one.propose(ends("guest", later))
		for _, u := range []string{"d", "e", "f"} {
			two.propose(put(0, u))
		}
		two.propose(ends("guest", later+1))
		one.restart()
		one.reached(true)
		one.Connected()
		eventually(t, "all are in the group", func() bool {
			return !slices.ContainsFunc([]string{"first", "a", "b", "d", "e", "f"}, func(u string) bool { return !one.lets(u) })
		})
		if end := one.Ends("guest"); end.Unix() != later+1 {
			t.Errorf("what both have changed is of neither or of the one that lost: %v", end)
		}
		one.restart()
		one.Connected()
		timer := time.NewTimer(time.Minute)
		<-timer.C
		if v, w := one.Version(), two.Version(); v != w || len(one.made) == 0 {
			t.Errorf("another restart makes versions: %d and %d", v, w)
		}
	})
}

func TestWhatAnotherTookBackIsNotChangedAgainAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two := m.join("root", "root"), m.join("spare", "root")
		one.lets("x")
		two.lets("x")
		for _, apart := range []bool{false, true} { // told of each version, and of the last one alone
			one.propose(put(0, "bob"))
			eventually(t, "bob is let in", func() bool { return one.lets("bob") && two.lets("bob") })
			one.reached(!apart)
			for _, change := range []func(*signed.Source) error{
				func(s *signed.Source) error { delete(s.Groups, "ops"); return nil }, put(0, "carol"), put(0, "dave"),
			} {
				two.propose(change)
				if !apart {
					eventually(t, "one has it", func() bool { return one.Head().Sum == two.Head().Sum && !one.behind() })
				}
			}
			one.restart()
			one.reached(true)
			one.Connected()
			eventually(t, "dave is let in and bob is not", func() bool { return one.lets("dave") && !one.lets("bob") })
			timer := time.NewTimer(time.Minute)
			<-timer.C
			if one.lets("bob") || two.lets("bob") || one.Head().Sum != two.Head().Sum {
				t.Errorf("bob is back, at version %d (apart: %v)", one.Head().Version, apart)
			}
		}
	})
}

func TestALineIsThatOfTheHeadAlsoAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one := m.join("root", "root")
		for _, u := range []string{"a", "b", "c"} {
			one.propose(put(0, u))
		}
		two := m.join("spare", "root")
		two.lets("x")
		two.Connected()
		has := func() bool { return two.Head() != nil && two.Head().Sum == one.Head().Sum && !two.behind() }
		eventually(t, "the other has the source and its line", has)
		known := func(n *node) []string {
			n.mu.Lock()
			defer n.mu.Unlock()
			return slices.Clone(n.line)
		}
		if line := known(two); len(line) != 2 {
			t.Fatalf("its line: %v", line)
		}
		for _, u := range []string{"d", "e"} {
			one.propose(put(0, u))
			eventually(t, "the other has the next version", has)
		}
		two.restart()
		if line := known(two); len(line) == 0 || line[0] != two.Head().Previous {
			t.Errorf("after a restart the line begins with another head than the one before: %v", line)
		}
		wrong := append([]string{"another"}, known(one)...)
		source, _, err := two.Source()
		if err != nil {
			t.Fatal(err)
		}
		if err := two.adoptSource(source, two.Head(), wrong); err != nil || slices.Contains(known(two), "another") {
			t.Errorf("the line of another head is taken: %v", err)
		}
	})
}

func TestAPolicyOfWhichNoSliceCanBeMadeIsNotPutInForce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		root.propose(put(0, "bob"))
		var all []string
		for i := range signed.MaxMembers {
			all = append(all, fmt.Sprintf("somebody-%d", i))
		}
		_, err := root.Propose(t.Context(), func(s *signed.Source) error {
			s.Mode = signed.Observe
			s.Grants = []signed.Grant{{Name: "all", Who: []signed.Who{{Name: "group:many"}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}}}
			g := signed.Group{Members: []signed.Member{}}
			for _, u := range all {
				g.Members = append(g.Members, signed.Member{User: u, Added: 1})
			}
			s.Groups["many"] = g
			return nil
		})
		if answer.CodeOf(err) != answer.BadRequest || root.Version() != 1 {
			t.Errorf("version %d is in force: %v", root.Version(), err)
		}
	})
}
