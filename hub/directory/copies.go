package directory

import (
	"bytes"
	"cmp"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Hubs that share no directory tell each other the records of the endpoints that are attached to
// them. A hub keeps a copy of each. It is told that an endpoint left, but not what it missed while
// it was away, so a copy of an endpoint that is nowhere holds its name against nobody.
//
// Two hubs may have given one name to two endpoints. Then both hubs come to the same result: the
// endpoint whose user was admitted first has it, and of two that were admitted in the same second
// the one with the smaller ID. Of two endpoints of one user it is the later one: a hub has let it
// take the place of the other.

// Elsewhere implements [Directory].
func (d *Local) Elsewhere(self identity.ID, seen Seen) {
	d.mu.Lock()
	d.self, d.seen = self, seen
	d.mu.Unlock()
}

// onlineLocked reports whether an endpoint is attached to this hub, or to another.
func (d *Local) onlineLocked(e *endpoint) bool {
	if e.attached != nil {
		return true
	}
	_, _, online := d.seen(e.Subject.ID)
	return online
}

// Record returns the signed record of an endpoint and its time; nil if there is none.
func (d *Local) Record(id identity.ID) (doc []byte, time unixtime.Millis) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if e := d.byID[id]; e != nil {
		return e.Doc, e.Record.Time
	}
	return nil, 0
}

// Holder returns which endpoint has a name; "" if none has.
func (d *Local) Holder(name string) identity.ID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if i, there := d.searchLocked(name); there {
		return d.byName[i].Subject.ID
	}
	return ""
}

// Learn takes a record that another hub has told, which the caller has verified. One that is not
// newer changes nothing. Where another endpoint keeps the name, it returns that one, and the record
// is not taken; where the other endpoint loses it, that one is removed.
func (d *Local) Learn(doc []byte, rec identity.Record, subject identity.Subject) (holder identity.ID, err error) {
	rec.Certificate = nil
	next := &row{Doc: bytes.Clone(doc), Subject: subject, Record: rec, Copy: true}
	holder, changed, err := d.learn(next)
	if err != nil || len(changed) == 0 {
		return holder, err
	}
	return holder, d.saver.save(changed...)
}

func (d *Local) learn(next *row) (holder identity.ID, changed []identity.ID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.byID[next.Subject.ID]
	if old != nil && next.Record.Time <= old.Record.Time {
		return "", nil, nil
	}
	if i, there := d.searchLocked(next.Record.Name); there && d.byName[i] != old {
		other := d.byName[i]
		if !d.yieldsLocked(other, next.Subject) {
			return other.Subject.ID, nil, nil
		}
		changed = append(changed, other.Subject.ID)
		d.dropLocked(other)
	}
	write := true
	if old == nil {
		err = d.addLocked(next)
	} else {
		next.Copy = old.Copy
		write, err = d.replaceLocked(old, next)
	}
	if err == nil && write {
		d.freeLocked(next.Record.Name)
		changed = append(changed, next.Subject.ID)
	}
	return "", changed, err
}

// yieldsLocked reports whether an endpoint loses its name to another one that another hub told of.
func (d *Local) yieldsLocked(e *endpoint, to identity.Subject) bool {
	if e.Copy && !d.onlineLocked(e) {
		return true
	}
	if e.Subject.User == to.User {
		if c := cmp.Or(to.Admitted.Compare(e.Subject.Admitted), to.NotBefore.Compare(e.Subject.NotBefore)); c != 0 {
			return c > 0
		}
	}
	return cmp.Or(to.Admitted.Compare(e.Subject.Admitted), cmp.Compare(to.ID, e.Subject.ID)) < 0
}

// dropLocked removes an endpoint and frees its name.
func (d *Local) dropLocked(e *endpoint) {
	d.unlistLocked(e)
	delete(d.byID, e.Subject.ID)
	d.leaveUserLocked(e.Subject.User)
	d.endLocked(e)
}

// Left removes an endpoint that left on another hub, if its record is not newer than time. Its name
// is kept for its user where keep is true.
func (d *Local) Left(id identity.ID, time unixtime.Millis, keep bool) {
	d.mu.RLock()
	e := d.byID[id]
	old := e != nil && e.Record.Time <= time
	d.mu.RUnlock()
	if old {
		d.Remove(keep, func(s identity.Subject) bool { return s.ID == id }) // on disk with the next change if this fails
	}
}
