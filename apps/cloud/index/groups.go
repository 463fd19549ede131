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
// in a group is asked of the policy, which has to ask for the group first.
const MaxGroups = 16

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

// groups refuses an entry that makes too many groups of its user.
func (b *batch) groups(e *entry.Entry) error {
	if len(e.Readers.Groups) == 0 {
		return nil
	}
	b.x.mu.Lock()
	all := maps.Clone(b.x.groups[e.User])
	b.x.mu.Unlock()
	if all == nil {
		all = map[string]int{}
	}
	for _, c := range b.rows {
		if c.e.User == e.User {
			count(all, c.e.Readers.Groups)
		}
	}
	if count(all, e.Readers.Groups); len(all) > MaxGroups {
		return answer.Errorf(answer.Limit, "the files of user %s are shared with %d groups, the limit is %d", e.User, len(all), MaxGroups)
	}
	return nil
}

func count(all map[string]int, names []string) {
	for _, name := range names {
		all[name]++
	}
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
