// Package shelf is the files of an app of others in the cloud: what it publishes from one endpoint,
// and reads at others.
//
//	program -> its own path -> /users/USER/app-data/PROVIDER/NAME/PATH -> the app cloud of this endpoint
//
// The cloud carries the files, lets those read them who may, and knows no app. A path of a program
// leads nowhere but below the directory of its app.
package shelf

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// App is the name of the app that has the files. Only its API and its flows are known here.
const App = "cloud"

// Cloud is the app cloud of one endpoint, as its own user reaches it. Errors are *[answer.Error].
type Cloud interface {
	// Call sends a request to its API. path begins with the name of the app.
	Call(ctx context.Context, method, path string, in, out any) error
	// Open opens a flow to it. path begins with the name of the app.
	Open(ctx context.Context, path string, query url.Values) (net.Conn, error)
}

// Head stands before the bytes of a file that the cloud gets.
type Head struct {
	Path  string          `json:"path"` // in the tree of the user
	Size  int64           `json:"size"`
	Time  unixtime.Millis `json:"time"` // of its last change
	Exec  bool            `json:"exec,omitempty"`
	Share []string        `json:"share,omitempty"`
}

// whole stands behind the bytes of a file that were one state of it.
const whole = '+'

// Send writes a file to a flow of the cloud.
func (h Head) Send(w io.Writer, r io.Reader) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	if _, err = io.CopyN(w, r, h.Size); err == nil {
		_, err = w.Write([]byte{whole})
	}
	return err
}

// Fetching is how far the cloud is with what it was asked for.
type Fetching struct {
	ID                   string
	Files, Done, Sources int
	Bytes, Fetched       int64
	Step                 string
	Failed               []struct{ Path, Error string }
	Ended                bool
}

// Fetch has the cloud fetch what is at or below a path, and tells how far it is.
func Fetch(ctx context.Context, c Cloud, path string, tell func(Fetching)) error {
	var d Fetching
	if err := c.Call(ctx, http.MethodPost, App+"/downloads", map[string]string{"path": path}, &d); err != nil {
		return err
	}
	for !d.Ended {
		tell(d)
		if err := c.Call(ctx, http.MethodGet, App+"/downloads/"+url.PathEscape(d.ID)+"?wait=1", nil, &d); err != nil {
			return err
		}
	}
	if len(d.Failed) > 0 {
		return answer.Errorf(answer.Unavailable, "%s: %s", d.Failed[0].Path, d.Failed[0].Error)
	}
	return nil
}

// Read opens a file that the cloud has here.
func Read(ctx context.Context, c Cloud, path string) (net.Conn, error) {
	return c.Open(ctx, App+"/get", url.Values{"path": {path}})
}

// result is what became of one file.
type result struct{ Path, Error string }

// Results reads what became of files that were sent: so many.
func Results(r io.Reader, many int) error {
	results := json.NewDecoder(r)
	for range many {
		var one result
		if err := results.Decode(&one); err != nil {
			return fmt.Errorf("the cloud ended the upload: %w", err)
		}
		if one.Error != "" {
			return answer.Errorf(answer.BadRequest, "%s: %s", one.Path, one.Error)
		}
	}
	return nil
}
