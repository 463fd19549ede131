package directory

import (
	"bytes"
	"slices"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Hubs that share a store ask it who has a name, and take what it has decided as it is.

// Endpoint is an endpoint as the store has it. The caller has verified Doc.
type Endpoint struct {
	Doc     []byte
	Record  identity.Record
	Subject identity.Subject
	Copy    bool // another hub has told it, and the store has not confirmed it
}

// Decision is what a store has decided.
type Decision struct {
	Puts  []Endpoint
	Gone  []identity.ID
	Kept  map[string]Kept // names that are kept for a user from now on
	Freed []string        // names that are kept for nobody
}

// Kept says for whom a name is kept that became free.
type Kept struct {
	User  string
	Until time.Time
}

// Decide puts what was decided in force. Names and limits are not asked: whoever has a name that was
// given to another loses it, and endpoints that are gone are cut off. A record is not replaced by an
// older one under the same name. It returns how to wait until it is on disk, which may be left out.
func (d *Local) Decide(x Decision) (saved func() error) {
	ids := d.decide(x)
	return func() error {
		if len(ids) == 0 {
			return nil
		}
		return d.saver.save(ids...)
	}
}

func (d *Local) decide(x Decision) (changed []identity.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range x.Gone {
		if e := d.byID[id]; e != nil {
			d.dropLocked(e)
			changed = append(changed, id)
		}
	}
	for _, p := range x.Puts {
		changed = append(changed, d.decidePutLocked(p)...)
	}
	for _, name := range x.Freed {
		d.freeLocked(name)
	}
	for name, k := range x.Kept {
		d.freeLocked(name)
		if len(d.kept) < d.limits.Endpoints {
			d.kept[name] = keptName{k.User, unixtime.Of(k.Until)}
			d.keptBy[k.User]++
			d.changed[name] = struct{}{}
		}
	}
	return changed
}

func (d *Local) decidePutLocked(p Endpoint) (changed []identity.ID) {
	p.Record.Certificate = nil
	next := &row{Doc: bytes.Clone(p.Doc), Subject: p.Subject, Record: p.Record, Copy: p.Copy}
	old := d.byID[p.Subject.ID]
	if i, there := d.searchLocked(p.Record.Name); there && d.byName[i] != old {
		changed = append(changed, d.byName[i].Subject.ID)
		d.dropLocked(d.byName[i])
	}
	d.freeLocked(p.Record.Name)
	switch {
	case old == nil:
		d.byUser[p.Subject.User]++
		e := &endpoint{row: next, seen: unixtime.Of(p.Record.Time.Time())}
		d.byID[p.Subject.ID] = e
		d.insertLocked(e)
	case old.Record.Name == p.Record.Name && (p.Record.Time < old.Record.Time || same(old.row, next)):
		return changed
	default:
		d.leaveUserLocked(old.Subject.User)
		d.byUser[p.Subject.User]++
		d.unlistLocked(old)
		old.row = next
		d.insertLocked(old)
	}
	return append(changed, p.Subject.ID)
}

func (d *Local) unlistLocked(e *endpoint) {
	i, _ := d.searchLocked(e.Record.Name)
	d.byName = slices.Delete(d.byName, i, i+1)
}

// Admits checks all of a record that is to be put but its name, which a store decides: its time, and
// that there is room.
func (d *Local) Admits(rec identity.Record, subject identity.Subject) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	old := d.byID[subject.ID]
	switch {
	case old == nil && len(d.byID) >= d.limits.Endpoints:
		return answer.Errorf(answer.Limit, "the directory of this hub is full: it has %d endpoints", len(d.byID))
	case (old == nil || old.Subject.User != subject.User) && d.byUser[subject.User] >= d.limits.OfUser:
		return answer.Errorf(answer.Limit, "user %s has %d endpoints, which is the limit of this hub", subject.User, d.byUser[subject.User])
	case old != nil && rec.Time < old.Record.Time:
		return answer.Errorf(answer.Conflict, "the record of endpoint %s is older than the one the hub has (%s, %s)",
			rec.Name, unixtime.Text(rec.Time.Time()), unixtime.Text(old.Record.Time.Time()))
	}
	return nil
}

// Says reports whether the record of an endpoint says the same as another one, but for its time.
func (d *Local) Says(rec identity.Record, subject identity.Subject) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	old := d.byID[subject.ID]
	rec.Certificate = nil
	return old != nil && same(old.row, &row{Subject: subject, Record: rec})
}

// Each calls f with all endpoints, and whether they are attached here. f must not call the directory.
func (d *Local) Each(f func(e Endpoint, attached bool)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, e := range d.byName {
		f(Endpoint{e.Doc, e.Record, e.Subject, e.Copy}, e.attached != nil)
	}
}

// EachKept calls f with all names that are kept. f must not call the directory.
func (d *Local) EachKept(f func(name string, k Kept)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for name, k := range d.kept {
		f(name, Kept{k.User, k.Until.Time()})
	}
}
