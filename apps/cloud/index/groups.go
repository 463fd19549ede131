package index

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"ztm/apps/cloud/entry"
	"ztm/tunnel/answer"
)

// MaxGroups is how many groups one user's files can be shared with, all together: whether a peer is
// in a group is asked of the policy, which has to ask for the group first. Who shares is held to it.
const MaxGroups = 16

// knownGroups is how many groups of one user count at an endpoint. It is more than MaxGroups, as news
// come one by one, and from several endpoints of the user.
const knownGroups = 4 * MaxGroups

// groups counts the files of each user that name a group.
type groups map[string]map[string]int

// count counts a row, or no longer.
func (g groups) count(row *Row, n int) {
	if row.Readers == nil || len(row.Readers.Groups) == 0 {
		return
	}
	of := g[row.User]
	if of == nil {
		of = map[string]int{}
		g[row.User] = of
	}
	for _, name := range row.Readers.Groups {
		if of[name] += n; of[name] == 0 {
			delete(of, name)
		}
	}
}

// within returns a user's readers without the groups that are too many: these let nobody in here. A
// version is never refused for them, as the one before it may be shared with more.
func (g groups) within(user string, r entry.Readers) entry.Readers {
	of, room := g[user], knownGroups-len(g[user])
	r.Groups = slices.DeleteFunc(slices.Clone(r.Groups), func(name string) bool {
		if of[name] > 0 {
			return false
		}
		room--
		return room < 0
	})
	return r
}

// groupsOf refuses versions that, all together, make too many groups of their user.
func (x *Index) groupsOf(user string, list []Published) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := len(x.groups[user])
	after := groups{user: maps.Clone(x.groups[user])}
	next := map[string]*Row{}
	for _, p := range list {
		next[p.Entry.Path] = &Row{User: user, Readers: &p.Entry.Readers}
	}
	for path, row := range next {
		if old := x.rows[user+"/"+path]; old != nil {
			after.count(old, -1)
		}
		after.count(row, 1)
	}
	if n := len(after[user]); n > MaxGroups && n > before {
		return answer.Errorf(answer.Limit, "the files of user %s are shared with %d groups, the limit is %d", user, n, MaxGroups)
	}
	return nil
}

// Shared reports whether any file is shared with a group.
func (x *Index) Shared() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, of := range x.groups {
		if len(of) > 0 {
			return true
		}
	}
	return false
}

// View says which of the groups that files here are shared with somebody is in; "" is none. A number
// that they asked since is of one view: whoever joins a group has to hear of older files.
func (x *Index) View(who entry.Reader) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.viewLocked(who)
}

func (x *Index) viewLocked(who entry.Reader) string {
	if who.In == nil || len(x.groups) == 0 {
		return ""
	}
	all := map[string]bool{}
	for _, of := range x.groups {
		for name := range of {
			all[name] = true
		}
	}
	h, in := fnv.New64a(), false
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if who.In(name) {
			in = true
			h.Write(append([]byte(name), 0))
		}
	}
	if !in {
		return ""
	}
	return fmt.Sprintf("%x", h.Sum64())
}
