package hub

import (
	"time"

	"ztm/tunnel/answer"
)

// A name that became free, because its endpoint left, was renamed, evicted, or expired, is kept for its user. People send scripts and
// secrets to a name, and a stranger who takes it over would get them. User root gives a name free by removing the endpoint.

// keptName is a name that is kept for a user.
type keptName struct {
	User  string `json:"user"`
	Until int64  `json:"until"` // Unix seconds
}

// keepLocked keeps the name of a row for its user. A user who has many names kept loses the one that ends first.
func (g *registry) keepLocked(r *row) {
	user := r.Subject.User
	if n, first := g.keptOfLocked(user); n >= namesOfUser {
		g.freeLocked(first)
	}
	if len(g.kept) < g.limits.Agents {
		g.kept[r.Record.Name] = keptName{user, g.now().Add(nameKept).Unix()}
		g.changed[r.Record.Name] = struct{}{}
	}
}

// keptOfLocked returns how many names are kept for a user, and which of them ends first.
func (g *registry) keptOfLocked(user string) (n int, first string) {
	for name, k := range g.kept {
		if k.User != user {
			continue
		}
		if n++; n == 1 || k.Until < g.kept[first].Until {
			first = name
		}
	}
	return n, first
}

func (g *registry) freeLocked(name string) {
	if _, there := g.kept[name]; there {
		delete(g.kept, name)
		g.changed[name] = struct{}{}
	}
}

// keptForLocked returns the user for whom a name is kept; "" if it is not.
func (g *registry) keptForLocked(name string) string {
	k, there := g.kept[name]
	if !there || k.Until <= g.now().Unix() {
		return ""
	}
	return k.User
}

// mayHaveLocked returns an error if a name is kept for another user.
func (g *registry) mayHaveLocked(name, user string) error {
	if owner := g.keptForLocked(name); owner != "" && owner != user {
		until := time.Unix(g.kept[name].Until, 0)
		return answer.Errorf(answer.Conflict, "endpoint name %s was one of user %s, and is kept for them until %s", name, owner, date(until.UnixMilli()))
	}
	return nil
}

// freeOld frees the names whose time is over. They leave the disk with the next change.
func (g *registry) freeOld() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name := range g.kept {
		if g.keptForLocked(name) == "" {
			g.freeLocked(name)
		}
	}
}

// changedNames returns the names whose state is to be saved: for how long they are kept, or nil if they are free.
func (g *registry) changedNames() map[string]*keptName {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := make(map[string]*keptName, len(g.changed))
	for name := range g.changed {
		names[name] = nil
		if k, there := g.kept[name]; there {
			names[name] = &k
		}
	}
	clear(g.changed)
	return names
}
