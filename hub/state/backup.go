package state

import (
	"errors"
	"time"

	"ztm/store"
	"ztm/store/backup"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Backup is the hub's database, for package backup.
func Backup() backup.Kind {
	return backup.Kind{Name: "hub", Schema: schema, Merge: mergeRestored}
}

// mergeRestored keeps what must not be lost when an older database takes the place of another: the
// evictions that are known there, and which tokens were used.
func mergeRestored(restored, old *store.DB, now time.Time) error {
	to := &State{db: restored}
	if old != nil {
		from := &State{db: old}
		if err := to.keepTrust(from); err != nil {
			return err
		}
		if err := tokenTable.Keep(restored, old); err != nil {
			return err
		}
	}
	return to.Change(func(me *Self) { me.Restored = unixtime.Of(now) })
}

// keepTrust takes the trust list of another database, if it is of the same mesh and not older.
func (s *State) keepTrust(from *State) error {
	me, found, err := s.Self()
	if err != nil || !found {
		return err
	}
	trust, err := s.Trust(me)
	if err != nil {
		return err
	}
	doc, err := from.document()
	if err != nil {
		return err
	}
	next, err := trust.Update(doc)
	if errors.Is(err, identity.ErrFork) {
		next, err = identity.ParseTrust([]byte(me.CA), doc)
	}
	if err != nil || next == trust {
		return nil // of another mesh, or older
	}
	return s.SetTrust(next.Document())
}
