package beside

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"ztm/tunnel/answer"
)

func TestACallIsAnsweredAsAtTheSocket(t *testing.T) {
	a := Agent{API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			answer.Fail(w, nil, answer.Errorf(answer.Conflict, "taken"))
			return
		}
		b, _ := io.ReadAll(r.Body)
		answer.JSON(w, map[string]string{"got": r.Method + " " + string(b)})
	})}
	var out map[string]string
	if err := a.Call(t.Context(), "PUT", "/x", []int{1}, &out); err != nil || out["got"] != "PUT [1]" {
		t.Errorf("%v, %v", out, err)
	}
	if err := a.Call(t.Context(), "PUT", "/refused", nil, nil); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("%v", err)
	}
}

func TestWorkThatFailsEndsTheAgent(t *testing.T) {
	broken := errors.New("broken")
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	if err := With(wait, []Work{wait, func(context.Context) error { return broken }})(t.Context()); err != broken {
		t.Errorf("%v", err)
	}
	over := func(context.Context) error { return nil }
	if err := With(over, []Work{wait})(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
}
