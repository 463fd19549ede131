// Package settings saves the settings of an app. Every change takes the same steps:
//
//	load -> edit -> check -> prepare (listeners are opened, ...) -> save -> commit
//	                               \-- cannot be saved: drop -----/
//
// So a setting is in force exactly if it is saved, and an error changes nothing. A saved value that
// is no longer valid is an error, never the zero value, which might allow more.
package settings

import (
	"errors"
	"strings"
	"sync"

	"ztm/apps"
)

// Prepared is a change that is ready but not yet in force. Exactly one of the functions is called;
// nil does nothing.
type Prepared struct {
	Commit func() // puts the change in force, after it was saved
	Drop   func() // undoes the preparation, because the change could not be saved
}

// Value is one setting of an app. State has to be set. Methods may be called from any goroutine.
type Value[T any] struct {
	State apps.State
	Key   string         // under which it is saved; "" is "config"
	Check func(*T) error // makes the value what is to be written, or says what is wrong with it; nil takes every value

	mu sync.Mutex // held through a change
}

func (v *Value[T]) slot() slot {
	key := v.Key
	if key == "" {
		key = "config"
	}
	return slot{v.State, key, erased(v.Check)}
}

// Get returns the saved value, or the zero value if none was saved.
func (v *Value[T]) Get() (T, error) {
	var now, none T
	if err := v.slot().load(&now); err != nil {
		return none, err
	}
	return now, nil
}

// Change edits the value, saves it, and returns the new value. edit may change its argument in
// place. An error of edit, Check or prepare changes nothing; one of Check becomes a bad request
// unless it is an [answer.Error]. prepare may be nil. Other changes wait until prepare and the
// function that it returns are done.
func (v *Value[T]) Change(edit func(*T) error, prepare func(before, after T) (Prepared, error)) (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var before, after, none T // read one by one: edit shares nothing with before
	err := v.slot().change(&before, &after, func() error { return edit(&after) }, func() (Prepared, error) {
		if prepare == nil {
			return Prepared{}, nil
		}
		return prepare(before, after)
	})
	if err != nil {
		return none, err
	}
	return after, nil
}

// Table is a set of named settings, such as tunnels. State and Prefix have to be set. Methods may
// be called from any goroutine. The caller serialises changes of one name.
type Table[T any] struct {
	State  apps.State
	Prefix string         // of the keys under which they are saved; the name follows
	Check  func(*T) error // as of a [Value]
}

// Each calls add for each valid setting, sorted by name. It skips invalid ones, and returns their
// errors.
func (t *Table[T]) Each(add func(name string, v T)) error {
	keys, err := t.State.Keys(t.Prefix)
	errs := []error{err}
	for _, key := range keys {
		var v T
		if err := (slot{t.State, key, erased(t.Check)}).load(&v); err != nil {
			errs = append(errs, err)
			continue
		}
		add(strings.TrimPrefix(key, t.Prefix), v)
	}
	return errors.Join(errs...)
}

// Set saves a setting under a name and replaces the one there, in the steps of [Value.Change].
func (t *Table[T]) Set(name string, v T, prepare func(T) (Prepared, error)) error {
	return slot{t.State, t.Prefix + name, erased(t.Check)}.save(&v, func() (Prepared, error) {
		if prepare == nil {
			return Prepared{}, nil
		}
		return prepare(v)
	})
}

// Delete removes a setting. It is no error if there is none of that name.
func (t *Table[T]) Delete(name string) error { return t.State.Delete(t.Prefix + name) }
