// Package beside is work that runs beside an agent in its process and asks its API, as any client
// does: it is no part of the agent, which runs without it.
package beside

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"ztm/tunnel/answer"
)

// Agent is the agent in this process.
type Agent struct {
	API      http.Handler // the paths and answers of its socket
	Unjoined func() error // why it has not joined as its command line asks; nil if it has, or is about to
}

// Call sends a request. in and out are JSON, and may be nil. What the agent refuses is an
// [*answer.Error].
func (a Agent) Call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("request to the agent: %v", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("request to the agent: %v", err)
	}
	w := answer.NewKept(0)
	a.API.ServeHTTP(w, req)
	switch {
	case w.Status/100 != 2:
		return answer.Parse(w.Status, w.Body.Bytes())
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
		return fmt.Errorf("answer of the agent: %v", err)
	}
	return nil
}

// Work runs until its context ends.
type Work func(ctx context.Context) error

// With returns what runs work together with the work beside it. If that fails, all ends with its
// error.
func With(work Work, others []Work) Work {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		ended := make(chan error, len(others))
		for _, other := range others {
			go func() { // ends with ctx; awaited below
				err := other(ctx)
				if err != nil {
					cancel(err)
				}
				ended <- err
			}()
		}
		err := work(ctx)
		cancel(nil)
		for range others {
			if failed := <-ended; failed != nil {
				err = failed
			}
		}
		return err
	}
}
