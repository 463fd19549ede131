// Package rule says who may read files that are to come, by the directory that they come to.
package rule

import (
	"cmp"
	"strings"

	"ztm/apps"
	"ztm/apps/cloud/entry"
	"ztm/apps/settings"
)

// Rules is the rules of the directories of one user. Its methods may be called from any goroutine;
// the caller serialises changes.
type Rules struct{ table settings.Table[shared] }

// New returns the rules that a state has.
func New(s apps.State) *Rules {
	return &Rules{settings.Table[shared]{State: s, Prefix: "share/"}}
}

// shared says who may read what is below a path, from the next version on.
type shared struct {
	Readers entry.Readers `json:"readers"`
}

// Of returns whom a new file is shared with: by the rule of the nearest directory above it.
func (r *Rules) Of(path string) (readers entry.Readers, err error) {
	longest := -1
	err = r.table.Each(func(rule string, s shared) {
		rule = strings.TrimPrefix(rule, "/") // "/" is that of the whole tree
		if entry.Below(path, rule) && len(rule) > longest {
			longest, readers = len(rule), s.Readers
		}
	})
	return readers, err
}

// Set changes the rule of a directory. undo puts the one before back.
func (r *Rules) Set(path string, readers entry.Readers) (undo func() error, err error) {
	key := cmp.Or(path, "/")
	undo = func() error { return r.table.Delete(key) }
	err = r.table.Each(func(name string, before shared) {
		if name == key {
			undo = func() error { return r.table.Set(key, before, nil) }
		}
	})
	if err == nil {
		err = r.table.Set(key, shared{readers}, nil)
	}
	if err != nil {
		return nil, err
	}
	return undo, nil
}
