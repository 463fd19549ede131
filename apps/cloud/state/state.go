// Package state says how files here stand to what is published, and remembers which are not done, since
// when, why, and what helps.
package state

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// State says how a file here stands to what is published.
type State string

// The states.
const (
	Unpublished      State = "new"      // here, and not published
	Changed          State = "changed"  // edited here since it was published
	Synced           State = "synced"   // the published version is here
	Outdated         State = "outdated" // an older version is here
	Missing          State = "missing"  // published, and not here
	Downloading      State = "downloading"
	Conflict         State = "conflict"          // one side of two that were edited apart
	Damaged          State = "damaged"           // its content is not what was written here
	NotRepresentable State = "not representable" // this system cannot have a file of the name
	Unreadable       State = "unreadable"        // here, and it cannot be published

	Stopped State = "stopped" // of a mirror: nothing is done
	Held    State = "held"    // of a mirror: deletions wait for a person
)

// Problem is a file that is not done.
type Problem struct {
	Path   string    `json:"path"`
	State  State     `json:"state"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Help   string    `json:"help"` // the command that helps
}

// most is how many files with problems are remembered.
const most = 10_000

// Problems is the files with problems. The zero value is none. Its methods may be called from any
// goroutine.
type Problems struct {
	mu  sync.Mutex
	all map[string]Problem // by name; guarded by mu
}

// Note keeps, or forgets, why a file is not here. That a person has ended it is no problem.
func (p *Problems) Note(name string, err error) {
	switch {
	case err == nil:
		p.Forget(name)
	case !errors.Is(err, context.Canceled):
		p.put(Problem{Path: name, State: Missing, Reason: strings.TrimPrefix(Explain(err), name+": "), Help: "ztm cloud download " + Quoted(name)})
	}
}

// Damaged notes a file whose content is not what was written here.
func (p *Problems) Damaged(name string) {
	p.put(Problem{Path: name, State: Damaged, Reason: "its content changed without its time: the disk has lost it", Help: "ztm cloud download " + Quoted(name)})
}

// put keeps a problem. One that lasts goes on since it began, and damage stays damage until it is mended.
func (p *Problems) put(one Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, had := p.all[one.Path]
	if !had && len(p.all) >= most {
		return
	}
	one.Since = time.Now()
	if had && one.State != Damaged {
		one.State, one.Since = old.State, old.Since
	}
	if p.all == nil {
		p.all = map[string]Problem{}
	}
	p.all[one.Path] = one
}

// Forget forgets the problem of a file that is done.
func (p *Problems) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, name)
}

// Of returns the problem of a file.
func (p *Problems) Of(name string) (one Problem, has bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, has = p.all[name]
	return one, has
}

// List returns all of them, in no order.
func (p *Problems) List() (list []Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.all {
		list = append(list, one)
	}
	return list
}
