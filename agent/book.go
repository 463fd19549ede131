package agent

import (
	"sync"

	"ztm/store"
	"ztm/tunnel/answer"
)

// book is a membership as it is on disk.
type book struct {
	db   *store.DB // static
	name string    // of the mesh; static

	mu   sync.Mutex
	row  meshRow // replaced, and what it points to never changed; guarded by mu
	left bool    // the row is not to be written any longer; guarded by mu
}

// membership returns the row. The caller must not change what it points to.
func (b *book) membership() meshRow {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row
}

// save changes the row and writes it.
func (b *book) save(change func(*meshRow)) error {
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

// replaceRow writes the row of the membership that takes this one's place. From then on this one writes nothing any more.
func (b *book) replaceRow(row meshRow) error {
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
