// Package forks keeps trust lists that differ from a hub's, until a holder of the CA key has united
// them.
package forks

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"ztm/tunnel/identity"
)

// Max is how many trust lists that differ from the hub's are kept for holders of the CA key.
// Whoever brought one brings it again.
const Max = 4

// Forks are trust lists that the mesh's CA has signed and that hold evictions which the hub's list
// lacks, or the reverse. The hub cannot unite them: it keeps its own list and shows the others to
// holders of the CA key. The zero value is empty; its methods may be called from any goroutine.
type Forks struct {
	mu   sync.Mutex
	docs map[string][]byte // by sum
}

// Add keeps a list, and reports whether it is new and there was room. A list that nobody may unite
// with the hub's takes no room: who has the key of a CA that has retired can make many of them.
func (f *Forks) Add(own *identity.Trust, doc []byte, now time.Time) bool {
	if !own.Unites(doc, now) {
		return false
	}
	sum := identity.SumOf(doc)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.docs[sum] != nil || len(f.docs) >= Max {
		return false
	}
	if f.docs == nil {
		f.docs = map[string][]byte{}
	}
	f.docs[sum] = bytes.Clone(doc)
	return true
}

// Get returns a list; nil if it is not there.
func (f *Forks) Get(sum string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.docs[sum]
}

// Sums returns the lists that are kept.
func (f *Forks) Sums() (all []string) {
	f.mu.Lock()
	for sum := range f.docs {
		all = append(all, sum)
	}
	f.mu.Unlock()
	return all
}

// Settle forgets the lists that a newer one of the hub holds, or that nobody may unite with it.
func (f *Forks) Settle(own *identity.Trust, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sum, doc := range f.docs {
		if _, err := own.Update(doc); !errors.Is(err, identity.ErrFork) || !own.Unites(doc, now) {
			delete(f.docs, sum)
		}
	}
}
