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
	"fmt"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Prepared is a change that is ready but not yet in force. Exactly one of the functions is called;
// nil does nothing.
type Prepared struct {
	Commit func() // puts the change in force, after it was saved
	Drop   func() // undoes the preparation, because the change could not be saved
}

// save calls write, and then Commit or Drop.
func (p Prepared) save(write func() error) error {
	err := write()
	do := p.Commit
	if err != nil {
		do = p.Drop
	}
	if do != nil {
		do()
	}
	return err
}

// Value is one setting of an app. State has to be set. Methods may be called from any goroutine.
type Value[T any] struct {
	State apps.State
	Key   string             // under which it is saved; "" is "config"
	Check func(T) (T, error) // returns the value as it is to be written, or what is wrong with it; nil takes every value

	mu sync.Mutex // held through a change
}

func (v *Value[T]) key() string {
	if v.Key == "" {
		return "config"
	}
	return v.Key
}

// Get returns the saved value, or the zero value if none was saved.
func (v *Value[T]) Get() (T, error) { return load(v.State, v.key(), v.Check) }

// Change edits the value, saves it, and returns the new value. edit may change its argument in
// place. An error of edit, Check or prepare changes nothing; one of Check becomes a bad request
// unless it is an [answer.Error]. prepare may be nil. Other changes wait until prepare and the
// function that it returns are done.
func (v *Value[T]) Change(edit func(*T) error, prepare func(before, after T) (Prepared, error)) (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var none T
	before, err := v.Get()
	if err != nil {
		return none, err
	}
	after, err := v.Get() // another copy: edit shares nothing with before
	if err != nil {
		return none, err
	}
	if err := edit(&after); err != nil {
		return none, err
	}
	if after, err = checked(after, v.Check); err != nil {
		return none, refusal(err)
	}
	var p Prepared
	if prepare != nil {
		if p, err = prepare(before, after); err != nil {
			return none, err
		}
	}
	if err := p.save(func() error { return v.State.Save(v.key(), after) }); err != nil {
		return none, err
	}
	return after, nil
}

// Table is a set of named settings, such as tunnels. State and Prefix have to be set. Methods may
// be called from any goroutine. The caller serialises changes of one name.
type Table[T any] struct {
	State  apps.State
	Prefix string             // of the keys under which they are saved; the name follows
	Check  func(T) (T, error) // as of a [Value]
}

// Each calls add for each valid setting, sorted by name. It skips invalid ones, and returns their
// errors.
func (t *Table[T]) Each(add func(name string, v T)) error {
	keys, err := t.State.Keys(t.Prefix)
	errs := []error{err}
	for _, key := range keys {
		v, err := load(t.State, key, t.Check)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		add(strings.TrimPrefix(key, t.Prefix), v)
	}
	return errors.Join(errs...)
}

// Set saves a setting under a name and replaces the one there, in the steps of [Value.Change].
func (t *Table[T]) Set(name string, v T, prepare func(T) (Prepared, error)) error {
	v, err := checked(v, t.Check)
	if err != nil {
		return refusal(err)
	}
	var p Prepared
	if prepare != nil {
		if p, err = prepare(v); err != nil {
			return err
		}
	}
	return p.save(func() error { return t.State.Save(t.Prefix+name, v) })
}

// Delete removes a setting. It is no error if there is none of that name.
func (t *Table[T]) Delete(name string) error { return t.State.Delete(t.Prefix + name) }

func load[T any](s apps.State, key string, check func(T) (T, error)) (T, error) {
	var v, none T
	found, err := s.Load(key, &v)
	if found && err == nil {
		v, err = checked(v, check)
	}
	if err != nil {
		return none, fmt.Errorf("setting %q: %w", key, err)
	}
	return v, nil
}

func checked[T any](v T, check func(T) (T, error)) (T, error) {
	if check == nil {
		return v, nil
	}
	return check(v)
}

// refusal turns the error of a check into an answer.
func refusal(err error) error {
	if errors.As(err, new(*answer.Error)) {
		return err
	}
	return answer.Errorf(answer.BadRequest, "%v", err)
}
