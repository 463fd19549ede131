package keep

import (
	"testing"
	"time"

	"ztm/tunnel/answer"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

func TestAPolicyWithNamesThatDifferInCaseAloneCanBeReadAndMended(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		root.propose(put(0, "carol"))
		source, _, err := root.Source()
		if err != nil {
			t.Fatal(err)
		}
		source = source.Clone()
		source.Users["Bob"], source.Users["bob"] = signed.User{}, signed.User{}
		doc, err := source.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		head, err := signed.Head{Mesh: m.trust.Mesh(), Version: 2, Issued: unixtime.Of(time.Now()), Source: signed.Sum(doc), Previous: root.Head().Sum}.Sign(m.ca, m.trust)
		if err != nil {
			t.Fatal(err)
		}
		if err := root.commit(draft{&proposal{head: head}, source, doc}); err != nil { // as an older version has allowed it
			t.Fatal(err)
		}
		root.restart()
		root.propose(put(0, "dave"))
		add := func(user string) error {
			_, err := root.Propose(t.Context(), ends(user, 0))
			return err
		}
		if err := add("BOB"); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("a third one is added: %v", err)
		}
		root.propose(func(s *signed.Source) error { delete(s.Users, "Bob"); return nil })
		if err := add("Bob"); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("one that was taken out is added again: %v", err)
		}
	})
}

func TestALostChangeThatAddsANameLikeAnotherIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two := m.join("root", "root"), m.join("spare", "root")
		one.propose(put(0, "first"))
		eventually(t, "both have the first version", func() bool { return two.Head() != nil })
		one.reached(false)
		one.propose(ends("bob", 0))
		two.propose(put(0, "d"))
		two.propose(ends("BOB", 0))
		one.reached(true)
		one.Connected()
		eventually(t, "both have one version", func() bool { return one.Head().Sum == two.Head().Sum })
		one.propose(put(0, "e"))
		source, _, err := one.Source()
		if err != nil {
			t.Fatal(err)
		}
		if len(source.Users) != 1 {
			t.Errorf("users: %v", source.Users)
		}
	})
}
