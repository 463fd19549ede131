package directory

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/store"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Local is the directory of a single hub. It is in memory; saver writes changed rows to the hub's
// database. Make it with [Open].
type Local struct {
	limits Limits
	now    func() time.Time
	saver  *saver
	self   identity.ID // the hub; set by Elsewhere
	seen   Seen

	mu      sync.RWMutex
	byID    map[identity.ID]*endpoint
	byName  []*endpoint // sorted; names are unique
	byUser  map[string]int
	online  int
	kept    map[string]keptName // names that became free
	keptBy  map[string]int      // how many of them, by user
	changed map[string]struct{} // names whose entry in kept is to be saved
}

var _ Directory = (*Local)(nil)

// endpoint is one entry of the directory. Its row is replaced as a whole, never changed.
type endpoint struct {
	*row
	attached *attachment      // nil: offline
	address  string           // of the last attachment; "" since the hub has started
	seen     unixtime.Seconds // of the end of the last attachment, or of the record
}

// attachment is the online state of an endpoint.
type attachment struct{ end func() }

// Open reads the directory from a hub's database. now is the time by which names are kept. Its
// owner calls [Local.Run].
func Open(db *store.DB, limits Limits, now func() time.Time) (*Local, error) {
	d := &Local{
		limits: limits, now: now, byID: map[identity.ID]*endpoint{}, byUser: map[string]int{},
		keptBy: map[string]int{}, changed: map[string]struct{}{},
		seen: func(identity.ID) (string, []identity.ID, bool) { return "", nil, false },
	}
	disk := table{db}
	d.saver = newSaver(d.rows, func(rows map[identity.ID]*row) error { return disk.set(rows, d.changedNames()) })
	var err error
	if d.kept, err = disk.names(); err != nil {
		return nil, err
	}
	for _, k := range d.kept {
		d.keptBy[k.User]++
	}
	err = disk.endpoints(func(r row) {
		e := &endpoint{row: &r, seen: unixtime.Of(r.Record.Time.Time())}
		d.byID[r.Subject.ID] = e
		d.byName = append(d.byName, e)
		d.byUser[r.Subject.User]++
	})
	slices.SortFunc(d.byName, func(a, b *endpoint) int { return strings.Compare(a.Record.Name, b.Record.Name) })
	return d, err
}

// Run implements [Directory].
func (d *Local) Run(stop <-chan struct{}) { d.saver.run(stop) }

// Put implements [Directory].
func (d *Local) Put(doc []byte, rec identity.Record, subject identity.Subject) error {
	rec.Certificate = nil
	next := &row{Doc: bytes.Clone(doc), Subject: subject, Record: rec}
	changed, err := d.put(next)
	if err != nil || !changed {
		return err
	}
	return d.saver.save(subject.ID)
}

// put adds an endpoint or replaces its row, and reports whether there is anything to save.
func (d *Local) put(next *row) (changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.byID[next.Subject.ID]
	if err := d.checkLocked(next.Record.Name, next.Subject.ID).Check(next.Record.Name, next.Subject.User); err != nil {
		return false, err
	}
	if e == nil {
		changed, err = true, d.addLocked(next)
	} else {
		changed, err = d.replaceLocked(e, next)
	}
	if err == nil {
		d.freeLocked(next.Record.Name)
	}
	return changed, err
}

func (d *Local) addLocked(r *row) error {
	if len(d.byID) >= d.limits.Endpoints {
		return answer.Errorf(answer.Limit, "the directory of this hub is full: it has %d endpoints", len(d.byID))
	}
	if err := d.joinUserLocked(r.Subject.User); err != nil {
		return err
	}
	e := &endpoint{row: r, seen: unixtime.Of(r.Record.Time.Time())}
	d.byID[r.Subject.ID] = e
	d.insertLocked(e)
	return nil
}

func (d *Local) replaceLocked(e *endpoint, next *row) (changed bool, err error) {
	old := e.row
	if next.Record.Time < old.Record.Time {
		return false, answer.Errorf(answer.Conflict, "the record of endpoint %s is older than the one the hub has (%s, %s)",
			next.Record.Name, unixtime.Text(next.Record.Time.Time()), unixtime.Text(old.Record.Time.Time()))
	}
	if old.Subject.User != next.Subject.User { // the same device was invited again, as another user
		if err := d.joinUserLocked(next.Subject.User); err != nil {
			return false, err
		}
		d.leaveUserLocked(old.Subject.User)
	}
	if old.Record.Name == next.Record.Name {
		e.row = next
	} else {
		i, _ := d.searchLocked(old.Record.Name)
		d.byName = slices.Delete(d.byName, i, i+1)
		d.keepLocked(old)
		e.row = next
		d.insertLocked(e)
	}
	return !same(old, next), nil
}

// same reports whether two rows of an endpoint differ in nothing but the record's time, which is
// not worth a write to flash.
func same(a, b *row) bool {
	x, y := a.Record, b.Record
	x.Time, y.Time = 0, 0
	s, t := a.Subject, b.Subject
	return a.Copy == b.Copy && reflect.DeepEqual(x, y) && s.User == t.User && s.Admitted.Equal(t.Admitted) &&
		s.NotBefore.Equal(t.NotBefore) && s.NotAfter.Equal(t.NotAfter)
}

func (d *Local) insertLocked(e *endpoint) {
	i, _ := d.searchLocked(e.Record.Name)
	d.byName = slices.Insert(d.byName, i, e)
}

func (d *Local) searchLocked(name string) (int, bool) {
	return slices.BinarySearchFunc(d.byName, name, func(e *endpoint, name string) int {
		return strings.Compare(e.Record.Name, name)
	})
}

// takenLocked returns an error if another endpoint than id has a name.
func (d *Local) takenLocked(name string, id identity.ID) *answer.Error {
	i, there := d.searchLocked(name)
	if !there || d.byName[i].Subject.ID == id {
		return nil
	}
	by := d.byName[i]
	seen := "online now"
	if !d.onlineLocked(by) {
		seen = "last seen " + unixtime.Text(by.seen.Time())
	}
	return answer.Errorf(answer.Conflict, "endpoint name %s is taken by endpoint %s of user %s (%s)",
		name, by.Subject.ID, by.Subject.User, seen)
}

func (d *Local) joinUserLocked(user string) error {
	if d.byUser[user] >= d.limits.OfUser {
		return answer.Errorf(answer.Limit, "user %s has %d endpoints, which is the limit of this hub", user, d.byUser[user])
	}
	d.byUser[user]++
	return nil
}

func (d *Local) leaveUserLocked(user string) {
	if d.byUser[user]--; d.byUser[user] <= 0 {
		delete(d.byUser, user)
	}
}

// Remove implements [Directory].
func (d *Local) Remove(keep bool, which func(identity.Subject) bool) (removed int, err error) {
	gone := d.remove(keep, which)
	if len(gone) == 0 {
		return 0, nil
	}
	return len(gone), d.saver.save(gone...)
}

func (d *Local) remove(keep bool, which func(identity.Subject) bool) (gone []identity.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.byName = slices.DeleteFunc(d.byName, func(e *endpoint) bool {
		if !which(e.Subject) {
			return false
		}
		gone = append(gone, e.Subject.ID)
		delete(d.byID, e.Subject.ID)
		d.leaveUserLocked(e.Subject.User)
		if keep {
			d.keepLocked(e.row)
		}
		d.endLocked(e)
		return true
	})
	return gone
}

// rows returns the rows of endpoints; nil for those that are not there.
func (d *Local) rows(ids map[identity.ID]struct{}) map[identity.ID]*row {
	d.mu.RLock()
	rows := make(map[identity.ID]*row, len(ids))
	for id := range ids {
		rows[id] = nil
		if e := d.byID[id]; e != nil {
			rows[id] = e.row
		}
	}
	d.mu.RUnlock()
	return rows
}

// Attach implements [Directory].
func (d *Local) Attach(id identity.ID, address string, end func()) (detach func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.byID[id]
	if e == nil {
		return nil, answer.Errorf(answer.Conflict, "endpoint %s has no record in the directory yet", id)
	}
	d.endLocked(e)
	a := &attachment{end}
	e.attached, e.address = a, address
	d.online++
	return func() { d.detach(id, a) }, nil
}

// endLocked makes an endpoint offline whose attachment was taken over, or which is removed.
func (d *Local) endLocked(e *endpoint) {
	if e.attached != nil {
		e.attached.end()
		e.attached = nil
		d.online--
	}
}

func (d *Local) detach(id identity.ID, a *attachment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.byID[id]; e != nil && e.attached == a {
		e.attached, e.seen = nil, unixtime.Of(time.Now())
		d.online--
	}
}

// Check implements [Directory].
func (d *Local) Check(name string, id identity.ID) *tunnel.NameCheck {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.checkLocked(name, id)
}

func (d *Local) checkLocked(name string, id identity.ID) *tunnel.NameCheck {
	return &tunnel.NameCheck{Taken: d.takenLocked(name, id), KeptFor: d.keptForLocked(name)}
}

// Name implements [Directory].
func (d *Local) Name(id identity.ID) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if e := d.byID[id]; e != nil {
		return e.Record.Name
	}
	return ""
}

// Signers implements [Directory].
func (d *Local) Signers(user string) (ids []identity.ID) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var elsewhere []identity.ID
	for _, e := range d.byName {
		switch {
		case !e.Record.Signer || e.Subject.User != user:
		case e.attached != nil:
			ids = append(ids, e.Subject.ID)
		case d.onlineLocked(e):
			elsewhere = append(elsewhere, e.Subject.ID)
		}
	}
	return append(ids, elsewhere...)
}

// Size implements [Directory].
func (d *Local) Size() (all, online int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.byID), d.online
}
