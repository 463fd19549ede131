package state

import (
	"sync"
	"time"

	"ztm/agent/authority"
	"ztm/agent/tokens"
	"ztm/store"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Book is a membership as it is on disk. Make it with [NewBook]. It is safe for concurrent use.
type Book struct {
	db           *store.DB // static
	name         string    // of the mesh; static
	tokens.Store           // of this mesh; static

	mu   sync.Mutex
	row  authority.Row // replaced, and what it points to never changed; guarded by mu
	left bool          // the row is not to be written any longer; guarded by mu
}

// NewBook is the membership in a mesh, whose row is on disk already.
func NewBook(db *store.DB, mesh string, row authority.Row) *Book {
	return &Book{db: db, name: mesh, row: row, Store: tokens.Store{DB: db, Mesh: mesh}}
}

// Membership returns the row. The caller must not change what it points to.
func (b *Book) Membership() authority.Row {
	b.mu.Lock()
	row := b.row
	b.mu.Unlock()
	return row
}

// Save changes the row and writes it.
func (b *Book) Save(change func(*authority.Row)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left {
		return answer.Errorf(answer.Unavailable, "mesh %s was left", b.name)
	}
	row := b.row
	change(&row)
	if err := SaveMesh(b.db, b.name, row); err != nil {
		return err
	}
	b.row = row
	return nil
}

// Replace writes the row of the membership that takes this one's place. From then on this one
// writes nothing any longer.
func (b *Book) Replace(row authority.Row) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := SaveMesh(b.db, b.name, row)
	b.left = b.left || err == nil
	return err
}

// Forget deletes the membership from the database, for good unless it fails.
func (b *Book) Forget() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := deleteMesh(b.db, b.name)
	b.left = err == nil
	return err
}

// NoteInvited implements [authority.Book].
func (b *Book) NoteInvited(user string, admitted time.Time) error {
	return noteInvited(b.db, b.name, user, admitted)
}

// NoteAdmitted implements [authority.Book].
func (b *Book) NoteAdmitted(id identity.ID, user string, admitted, now time.Time) error {
	return noteAdmitted(b.db, b.name, id, user, admitted, now)
}

// Admissions returns the endpoints that were admitted here.
func (b *Book) Admissions() (map[identity.ID]Admission, error) { return admissions(b.db, b.name) }

// LastInvited implements [authority.Book].
func (b *Book) LastInvited(user string) (admitted time.Time, found bool, err error) {
	return lastInvited(b.db, b.name, user)
}
