package state

import (
	"errors"
	"time"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/store"
	"ztm/tunnel/answer"
)

// Pin remembers whom a name means from now on and returns whom it meant. allow may refuse that a
// name that is known changes its meaning, and then it stays. What says the same is not written again.
func (b *Book) Pin(name string, now api.KnownName, allow func(was api.KnownName) error) (was api.KnownName, known bool, err error) {
	key := b.name + "/" + name
	err = b.db.Update(func(tx *store.Tx) error {
		var err error
		if was, known, err = nameTable.Get(tx, key); err != nil {
			return err
		}
		if !known {
			err = b.makeRoomForName(tx)
		} else {
			err = allow(was)
		}
		if err != nil || known && was.ID == now.ID && was.Admitted.Equal(now.Admitted) {
			return err
		}
		return nameTable.Put(tx, key, now)
	})
	return was, known, err
}

// makeRoomForName drops the name that is longest known where there are too many.
func (b *Book) makeRoomForName(tx *store.Tx) error {
	oldest, since, n := "", time.Time{}, 0
	err := nameTable.ForEach(tx, b.name+"/", func(key string, known api.KnownName) error {
		if n++; oldest == "" || known.Since.Before(since) {
			oldest, since = key, known.Since
		}
		return nil
	})
	if err != nil || n < limits.KnownNames {
		return err
	}
	return nameTable.Delete(tx, oldest)
}

// Unpin forgets whom a name means: its next use pins it anew.
func (b *Book) Unpin(name string) error {
	key := b.name + "/" + name
	return b.db.Update(func(tx *store.Tx) error {
		_, known, err := nameTable.Get(tx, key)
		if err == nil && !known {
			return answer.Errorf(answer.NotFound, "whose the name %q is was never asked here: there is nothing to forget", name)
		}
		return errors.Join(err, nameTable.Delete(tx, key))
	})
}
