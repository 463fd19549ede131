package agent

import (
	"sync"
	"time"

	"ztm/agent/authority"
	"ztm/agent/tokens"
	"ztm/store"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// book is a membership as it is on disk.
type book struct {
	db           *store.DB // static
	name         string    // of the mesh; static
	tokens.Store           // of this mesh; static

	mu   sync.Mutex
	row  authority.Row // replaced, and what it points to never changed; guarded by mu
	left bool          // the row is not to be written any longer; guarded by mu
}

// Membership returns the row. The caller must not change what it points to.
func (b *book) Membership() authority.Row {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row
}

// Save changes the row and writes it.
func (b *book) Save(change func(*authority.Row)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left {
		return answer.Errorf(answer.Unavailable, "mesh %s was left", b.name)
	}
	row := b.row
	change(&row)
	if err := saveMesh(b.db, b.name, row); err != nil {
		return err
	}
	b.row = row
	return nil
}

// replaceRow writes the row of the membership that takes this one's place. From then on this one
// writes nothing any longer.
func (b *book) replaceRow(row authority.Row) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := saveMesh(b.db, b.name, row)
	b.left = b.left || err == nil
	return err
}

// forget deletes the membership from the database, for good unless it fails.
func (b *book) forget() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := deleteMesh(b.db, b.name)
	b.left = err == nil
	return err
}

// NoteInvited implements [authority.Book].
func (b *book) NoteInvited(user string, admitted time.Time) error {
	return noteInvited(b.db, b.name, user, admitted)
}

// NoteAdmitted implements [authority.Book].
func (b *book) NoteAdmitted(id identity.ID, user string, now time.Time) error {
	return noteAdmitted(b.db, b.name, id, user, now)
}

// admitted returns the endpoints that were admitted here.
func (b *book) admitted() (map[identity.ID]admittedRow, error) { return admittedHere(b.db, b.name) }

// LastInvited implements [authority.Book].
func (b *book) LastInvited(user string) (admitted time.Time, found bool, err error) {
	return lastInvited(b.db, b.name, user)
}
