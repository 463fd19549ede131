package process

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"ztm/apps"
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
func API[T, C any](s *Settings[T], apply func(*T, C) error, changed func(T)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
			v, err := s.Get()
			Answer(w, v, err)
		case http.MethodPatch:
			var c C
			body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxChange))
			body.DisallowUnknownFields() // a misspelt restriction must not be silently no restriction
			if err := body.Decode(&c); err != nil {
				Answer(w, nil, apps.Errorf(apps.BadRequest, "change: %v", err))
				return
			}
			v, err := s.Change(func(v *T) error { return apply(v, c) })
			if err == nil {
				changed(v)
			}
			Answer(w, v, err)
		default:
			w.Header().Set("Allow", "GET, PATCH")
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
}

// Answer answers a request with v as JSON, or with err. The text of an error that is no *[apps.Error] is not told.
func Answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var told *apps.Error
		if !errors.As(err, &told) {
			told = apps.Errorf(apps.Internal, "internal error")
		}
		w.WriteHeader(told.Code.Status())
		v = told
	}
	json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}
