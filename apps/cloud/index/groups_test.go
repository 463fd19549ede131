package index

import (
	"fmt"
	"slices"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/tunnel/answer"
)

// grouped is a version that bob can read, and some groups.
func grouped(path, text string, groups ...string) Published {
	p := version(path, text, "bob")
	p.Entry.Readers.Groups = groups
	return p
}

// member is somebody in one group.
func member(group string) entry.Reader {
	return entry.Reader{User: "dave", In: func(g string) bool { return g == group }}
}

// numbered returns sixteen groups, whose names begin alike.
func numbered(name string) (groups []string) {
	for i := range MaxGroups {
		groups = append(groups, fmt.Sprintf("%s%02d", name, i))
	}
	return groups
}

func TestAGroupCanTakeThePlaceOfAnotherWhereAllAreInUse(t *testing.T) {
	var n appstest.Net
	a, b := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "bob")
	use := numbered("g")
	var before, after []Published
	for i := range publishFiles + 10 {
		before = append(before, grouped(fmt.Sprint(i), fmt.Sprint(i), use...))
		after = append(after, grouped(fmt.Sprint(i), fmt.Sprint(i), append(slices.Clone(use[1:]), "new")...))
		after[i].Lost = entry.Readers{Groups: use[:1]}
	}
	a.publish(before...)
	b.learn(a)
	a.publish(after...) // of them all at once
	b.learn(a)
	for _, m := range []*made{a, b} {
		for _, p := range after {
			h := blocks.Hash(p.Entry.Hash)
			if len(m.ByContent(h, member("new"))) != 1 || len(m.ByContent(h, member(use[0]))) != 0 {
				t.Fatalf("at %s, file %s is read by the group before", m.self.User, p.Entry.Path)
			}
		}
	}
	if err := a.Publish(a.self, []Published{grouped("more", "x", "another")}); answer.CodeOf(err) != answer.Limit {
		t.Errorf("one more group: %v", err)
	}
}

func TestAVersionWithTooManyGroupsIsTakenAndTheseLetNobodyIn(t *testing.T) {
	var n appstest.Net
	b := newIndex(t, &n, "b", "bob")
	for i := range knownGroups / MaxGroups {
		other := newIndex(t, &n, fmt.Sprint("a", i), "alice")
		other.publish(grouped(fmt.Sprint(i), "x", numbered(fmt.Sprint(i, "-"))...))
		b.learn(other)
	}
	a := newIndex(t, &n, "a", "alice")
	a.publish(grouped("known", "old", "0-00"))
	b.learn(a)
	next := grouped("known", "next", "0-01", "surplus")
	a.publish(next)
	b.learn(a)
	h := blocks.Hash(next.Entry.Hash)
	if len(b.ByContent(h, member("0-01"))) != 1 {
		t.Error("the new version is not known to those who may read it")
	}
	if len(b.ByContent(h, member("surplus"))) != 0 || b.View(member("surplus")) != "" {
		t.Error("a group that is too many lets somebody in")
	}
	a.publish(grouped("known", "last", "0-00"))
	b.learn(a)
	if k, err := b.Get("alice", "known"); err != nil || k.Size != int64(len("last")) {
		t.Errorf("then %+v, %v", k, err)
	}
}

func TestGroupsThatAreTooManyByNowCanBecomeFewer(t *testing.T) {
	var n appstest.Net
	a, other := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "alice")
	a.publish(grouped("x", "x", numbered("a")...))
	other.publish(grouped("y", "y", numbered("b")...))
	a.learn(other)
	fewer := grouped("x", "x", numbered("a")[1:]...)
	fewer.Lost = entry.Readers{Groups: numbered("a")[:1]}
	if err := a.Publish(a.self, []Published{fewer}); err != nil {
		t.Error(err)
	}
}
