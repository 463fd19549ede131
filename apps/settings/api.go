package settings

import (
	"log/slog"
	"net/http"

	"ztm/tunnel/answer"
)

// maxChange is the longest body of a change, in bytes.
const maxChange = 64 << 10

// API serves a value. GET answers with it. PATCH reads a change C, makes it with apply and prepare
// as [Value.Change] does, and answers with the new value. It refuses unknown fields, so that a
// misspelt restriction is not silently dropped. What was changed is explained for the audit log: T has no
// secrets.
func API[T, C any](v *Value[T], log *slog.Logger, apply func(*T, C) error, prepare func(before, after T) (Prepared, error)) http.Handler {
	return &handler{log, func() (any, error) { return v.Get() }, func(r *http.Request) (was, is any, err error) {
		var c C
		if err := answer.Decode(r, maxChange, &c); err != nil {
			return nil, nil, err
		}
		is, err = v.Change(func(t *T) error { return apply(t, c) }, func(before, after T) (Prepared, error) {
			was = before
			if prepare == nil {
				return Prepared{}, nil
			}
			return prepare(before, after)
		})
		return was, is, err
	}}
}

// handler is an API of a value of any type.
type handler struct {
	log   *slog.Logger
	get   func() (any, error)
	patch func(*http.Request) (was, is any, err error)
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var now any
	var err error
	switch r.Method {
	case http.MethodGet:
		now, err = h.get()
	case http.MethodPatch:
		var was any
		if was, now, err = h.patch(r); err == nil {
			answer.Explain(w, "%s", Difference(was, now))
		}
	default:
		err = answer.Errorf(answer.BadRequest, "settings are not changed with %s", r.Method)
	}
	answer.Reply(w, h.log, now, err)
}
