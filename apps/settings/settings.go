// Package settings keeps what the owner of an endpoint has set in an app. A setting goes one way, whatever it is:
//
//	load -> edit -> check -> prepare (listeners are opened, ...) -> save -> commit
//	                               \-- cannot be saved: drop -----/
//
// So nothing is in force that is not saved, nothing is saved that cannot be in force, and an error changes nothing. A saved
// value that is no longer valid is an error, never the zero value: what cannot be read allows nobody anything.
package settings

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Prepared is a change that is ready and not yet in force. Exactly one of the two is called; nil does nothing.
type Prepared struct {
	Commit func() // puts it in force: it is saved
	Drop   func() // undoes what was prepared: it could not be saved
}

// save saves what was prepared and commits it, or drops it.
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

// Get returns the value, the zero value if nothing was ever set.
func (v *Value[T]) Get() (T, error) { return load(v.State, v.key(), v.Check) }

// Change edits the value and saves it, and returns what is then in force. edit may change what it is given in place. What edit, Check
// and prepare refuse changes nothing; an error of Check reaches a peer as a bad request unless it is an [answer.Error]. prepare may
// be nil. It and what it returns are called while other changes wait.
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

// Table is the settings of an app that have names, such as its tunnels. State and Prefix have to be set. Methods may be called from any
// goroutine; a change does not wait for another, because apps change more than a table at once: they hold a lock of their own.
type Table[T any] struct {
	State  apps.State
	Prefix string             // of the keys under which they are saved; the name follows
	Check  func(T) (T, error) // as of a [Value]
}

// Each calls add for each setting that is valid, sorted by name. It goes on after one that is not, and returns what was wrong.
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

// Set saves a setting in the place of the one of that name, as [Value.Change] does.
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

// Delete removes a setting. Removing what is not there is no error.
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

// refusal makes an answer of what is wrong with a setting.
func refusal(err error) error {
	if errors.As(err, new(*answer.Error)) {
		return err
	}
	return answer.Errorf(answer.BadRequest, "%v", err)
}
