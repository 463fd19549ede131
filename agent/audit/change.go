package audit

import (
	"net/http"
	"strings"

	"ztm/tunnel/answer"
)

// Change answers a request to change something and adds a line of what came of it. about says who
// asks, and in Target for what: a path, as the endpoint has it. A request that only reads leaves no
// line.
func (l *Log) Change(w http.ResponseWriter, r *http.Request, about Line, serve http.HandlerFunc) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		serve(w, r)
		return
	}
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	serve(seen, r)
	about.Event, about.Result = Settings, OK
	if rest, ok := strings.CutPrefix(about.Target, "apps/"); ok {
		about.App, _, _ = strings.Cut(rest, "/")
	}
	about.Target = r.Method + " " + about.Target
	if seen.status >= http.StatusBadRequest {
		about.Result, about.Reason = No, ReasonOf(answer.Parse(seen.status, nil))
	}
	l.Add(about)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap gives [http.ResponseController] what is below.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
