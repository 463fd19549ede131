package settings

import (
	"errors"
	"fmt"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// slot is where one setting is saved, and all that there is to do which does not depend on its type:
// the compiler makes a copy of a [Value] and of a [Table] for each. Values are pointers to it.
type slot struct {
	state apps.State
	key   string
	check func(any) error
}

// erased is a check for a slot.
func erased[T any](check func(*T) error) func(any) error {
	return func(v any) error {
		if check == nil {
			return nil
		}
		return check(v.(*T))
	}
}

func (s slot) load(v any) error {
	found, err := s.state.Load(s.key, v)
	if found && err == nil {
		err = s.check(v)
	}
	if err != nil {
		return fmt.Errorf("setting %q: %w", s.key, err)
	}
	return nil
}

// change reads the value twice, and saves the second one when it was edited.
func (s slot) change(before, after any, edit func() error, prepare func() (Prepared, error)) error {
	for _, v := range []any{before, after} {
		if err := s.load(v); err != nil {
			return err
		}
	}
	if err := edit(); err != nil {
		return err
	}
	return s.save(after, prepare)
}

// save checks and saves a value. It ends in Commit or Drop of what was prepared.
func (s slot) save(v any, prepare func() (Prepared, error)) error {
	if err := s.check(v); err != nil {
		return refusal(err)
	}
	p, err := prepare()
	if err != nil {
		return err
	}
	do := p.Commit
	if err = s.state.Save(s.key, v); err != nil {
		do = p.Drop
	}
	if do != nil {
		do()
	}
	return err
}

// refusal turns the error of a check into an answer.
func refusal(err error) error {
	if errors.As(err, new(*answer.Error)) {
		return err
	}
	return answer.Errorf(answer.BadRequest, "%v", err)
}
