// Package note gives files their names in the local directory and writes into the index what is here
// now, for all that wait at a time together:
//
//	Note ─┐
//	Note ─┼─> content and names on the disk, one wait for each -> index, one transaction -> all return
//	Note ─┘
//
// What the index says is then never more than what the disk has.
package note

import (
	"errors"
	"sync"

	"ztm/apps/cloud/index"
	"ztm/apps/cloud/tree"
)

// Noter notes what is here. Index has to be set before the first use. Note may be called from any
// goroutine.
type Noter struct {
	Index *index.Index

	mu      sync.Mutex
	waiting []waiting
	busy    bool
}

// Entry is what is to be noted.
type Entry struct {
	index.Here
	Size int64 // of what Commit puts there, in bytes

	// Commit gives the file its name, and returns what was written: what stands there by now may be
	// an edit already, and must look like one. nil: it has its name.
	Commit func(durable bool) (*index.Local, error)
}

type waiting struct {
	Entry
	saved chan error // capacity 1
}

// Note returns when the file has its name and the database says so.
func (n *Noter) Note(t *tree.Tree, e Entry) error {
	w := waiting{e, make(chan error, 1)}
	n.mu.Lock()
	n.waiting = append(n.waiting, w)
	lead := !n.busy
	n.busy = true
	n.mu.Unlock()
	for lead {
		lead = n.save(t)
	}
	return <-w.saved
}

// save saves what waits, and reports whether there was anything.
func (n *Noter) save(t *tree.Tree) bool {
	n.mu.Lock()
	batch := n.waiting
	n.waiting = nil
	n.busy = len(batch) > 0
	n.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	errs := name(t, batch)
	var list []index.Here
	for i, w := range batch {
		if errs[i] == nil {
			list = append(list, w.Here)
		}
	}
	err := n.Index.Note(list)
	for i, w := range batch {
		w.saved <- errors.Join(errs[i], err)
	}
	return true
}

// name gives the files of a batch their names.
func name(t *tree.Tree, batch []waiting) []error {
	errs := make([]error, len(batch))
	var sizes []int64
	var which []int
	for i, w := range batch {
		if w.Commit != nil {
			sizes, which = append(sizes, w.Size), append(which, i)
		}
	}
	err := t.Batch(sizes, func(i int, durable bool) {
		w := &batch[which[i]]
		local, err := w.Commit(durable)
		if errs[which[i]] = err; err == nil {
			w.Local = local
		}
	})
	for _, i := range which {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}
