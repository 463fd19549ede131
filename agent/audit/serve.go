package audit

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ztm/tunnel/answer"
)

// WaitTime is how long an answer to a request that waits may take.
const WaitTime = 20 * time.Second

// Query is the query of a request for lines; wait has the answer wait for a line if there is none.
func (f Filter) Query(wait bool) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"user": f.User, "ep": f.Peer, "app": f.App, "ref": f.Ref} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		q.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if f.Refused {
		q.Set("refused", "true")
	}
	if f.After > 0 {
		q.Set("after", strconv.FormatUint(f.After, 10))
	}
	if wait {
		q.Set("wait", "true")
	}
	return q
}

// parseFilter is the inverse of [Filter.Query].
func parseFilter(q url.Values) (f Filter, wait bool, err error) {
	f = Filter{User: q.Get("user"), Peer: q.Get("ep"), App: q.Get("app"), Ref: q.Get("ref")}
	if s := q.Get("since"); s != "" {
		f.Since, err = time.Parse(time.RFC3339, s)
	}
	if s := q.Get("after"); s != "" && err == nil {
		f.After, err = strconv.ParseUint(s, 10, 64)
	}
	for name, to := range map[string]*bool{"refused": &f.Refused, "wait": &wait} {
		if s := q.Get(name); s != "" && err == nil {
			*to, err = strconv.ParseBool(s)
		}
	}
	if err != nil {
		return f, false, answer.Errorf(answer.BadRequest, "the audit log: %v", err)
	}
	return f, wait, nil
}

// Serve answers a request of the endpoint's own user.
//
//	GET              lines: [Filter.Query]
//	DELETE users/U   [Log.Forget]
//
// err is for the caller to answer with; then nothing was written.
func (l *Log) Serve(w http.ResponseWriter, r *http.Request, path string) error {
	user, forget := strings.CutPrefix(path, "users/")
	switch {
	case path == "" && r.Method == http.MethodGet:
		f, wait, err := parseFilter(r.URL.Query())
		if err != nil {
			return err
		}
		answer.JSON(w, l.await(r, f, wait))
	case forget && user != "" && r.Method == http.MethodDelete:
		answer.JSON(w, l.Forget(user))
	default:
		return answer.Errorf(answer.NotFound, "the audit log does not serve %s %q", r.Method, path)
	}
	return nil
}

// await returns the lines that match; if there are none, it waits a while for one.
func (l *Log) await(r *http.Request, f Filter, wait bool) []Line {
	late := time.NewTimer(WaitTime)
	defer late.Stop()
	for {
		lines, more := l.Lines(f)
		if len(lines) > 0 || !wait {
			return lines
		}
		select {
		case <-more:
		case <-late.C:
			return lines
		case <-l.done:
			return lines
		case <-r.Context().Done():
			return lines
		}
	}
}
