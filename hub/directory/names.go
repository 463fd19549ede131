package directory

import "ztm/tunnel/unixtime"

// A name that became free, because its endpoint left, was renamed, evicted, or expired, is kept for
// its user. People send scripts and secrets to a name, and another user who takes it over would get
// them. User root frees a name at once by removing the endpoint.

// keptName is a name that is kept for a user.
type keptName struct {
	User  string           `json:"user"`
	Until unixtime.Seconds `json:"until"`
}

// keepLocked keeps the name of a row for its user. A user who has many names kept loses the one
// that ends first.
func (d *Local) keepLocked(r *row) {
	user := r.Subject.User
	if d.keptBy[user] >= d.limits.NamesOfUser {
		d.freeLocked(d.firstKeptLocked(user))
	}
	if len(d.kept) >= d.limits.Endpoints {
		d.freeOldLocked()
	}
	if len(d.kept) < d.limits.Endpoints {
		d.freeLocked(r.Record.Name)
		d.kept[r.Record.Name] = keptName{user, unixtime.Of(d.now().Add(d.limits.NameKept))}
		d.keptBy[user]++
		d.changed[r.Record.Name] = struct{}{}
	}
}

// firstKeptLocked returns which of the names that are kept for a user ends first.
func (d *Local) firstKeptLocked(user string) (first string) {
	var until unixtime.Seconds
	for name, k := range d.kept {
		if k.User == user && (first == "" || k.Until < until) {
			first, until = name, k.Until
		}
	}
	return first
}

// freeOldLocked frees the names whose time is over.
func (d *Local) freeOldLocked() {
	for name := range d.kept {
		if d.keptForLocked(name) == "" {
			d.freeLocked(name)
		}
	}
}

func (d *Local) freeLocked(name string) {
	if k, there := d.kept[name]; there {
		delete(d.kept, name)
		if d.keptBy[k.User]--; d.keptBy[k.User] == 0 {
			delete(d.keptBy, k.User)
		}
		d.changed[name] = struct{}{}
	}
}

// keptForLocked returns the user for whom a name is kept; "" if it is not.
func (d *Local) keptForLocked(name string) string {
	k, there := d.kept[name]
	if !there || k.Until <= unixtime.Of(d.now()) {
		return ""
	}
	return k.User
}

// changedNames returns the names whose state is to be saved: for how long they are kept, or nil if
// they are free.
func (d *Local) changedNames() map[string]*keptName {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make(map[string]*keptName, len(d.changed))
	for name := range d.changed {
		names[name] = nil
		if k, there := d.kept[name]; there {
			names[name] = &k
		}
	}
	clear(d.changed)
	return names
}
