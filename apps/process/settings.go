package process

import (
	"log/slog"
	"net/http"
	"sync"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Settings is a value in the state of an app that its owner changes. Methods may be called from any goroutine.
type Settings[T any] struct {
	State apps.State
	mu    sync.Mutex // one change at a time
}

const settingsKey = "config"

// Get returns the settings; the zero value if nothing was ever set.
func (s *Settings[T]) Get() (T, error) {
	var v T
	_, err := s.State.Load(settingsKey, &v)
	return v, err
}

// Change makes a change and saves it. If change fails, nothing is changed.
func (s *Settings[T]) Change(change func(*T) error) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.Get()
	if err == nil {
		err = change(&v)
	}
	if err == nil {
		err = s.State.Save(settingsKey, v)
	}
	return v, err
}

// maxChange is the longest body of a change, in bytes.
const maxChange = 64 << 10

// API serves the settings: GET answers with them; PATCH decodes a change, makes it, calls changed and answers with the
// new ones.
func API[T, C any](s *Settings[T], log *slog.Logger, apply func(*T, C) error, changed func(T)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
			v, err := s.Get()
			answer.Reply(w, log, v, err)
		case http.MethodPatch:
			var c C
			if err := answer.Decode(r, maxChange, &c); err != nil {
				answer.Fail(w, log, err)
				return
			}
			v, err := s.Change(func(v *T) error { return apply(v, c) })
			if err == nil {
				changed(v)
			}
			answer.Reply(w, log, v, err)
		default:
			answer.Fail(w, log, answer.Errorf(answer.BadRequest, "settings are not changed with %s", r.Method))
		}
	})
}
