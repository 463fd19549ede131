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
// misspelt restriction is not silently dropped.
func API[T, C any](v *Value[T], log *slog.Logger, apply func(*T, C) error, prepare func(before, after T) (Prepared, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
			now, err := v.Get()
			answer.Reply(w, log, now, err)
		case http.MethodPatch:
			var c C
			err := answer.Decode(r, maxChange, &c)
			var now T
			if err == nil {
				now, err = v.Change(func(t *T) error { return apply(t, c) }, prepare)
			}
			answer.Reply(w, log, now, err)
		default:
			answer.Fail(w, log, answer.Errorf(answer.BadRequest, "settings are not changed with %s", r.Method))
		}
	})
}
