package keep

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ztm/tunnel/answer"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// restart ends a node and starts it from what is on its disk.
func (n *node) restart() {
	n.stop()
	n.start(n.State)
}

// ends gives the access of a user an end.
func ends(user string, until unixtime.Seconds) func(*signed.Source) error {
	return func(s *signed.Source) error {
		s.Users[user] = signed.User{Until: until}
		return nil
	}
}

func TestAChangeThatWasLostIsMadeAgainAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two, end := m.losesNothing(t, (*node).restart)
		if got := one.Ends("guest"); unixtime.Of(got) != end {
			t.Errorf("what both have changed is of neither or of the one that lost: %v", got)
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
	bubble(t, func(t *testing.T, m *mesh) { m.takesBack(t, (*node).restart) })
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
		if err := two.adoptSource(source, two.Head(), nil, wrong); err != nil || slices.Contains(known(two), "another") {
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
