package audit

import (
	"net/http"
	"strings"

	"ztm/tunnel/answer"
)

// Change answers a request to change something and adds a line of what came of it. about says who
// asks, and in Target for what: a path, as the endpoint has it. The line has the words of the command
// line in its place. A request that only reads leaves no line.
func (l *Log) Change(w http.ResponseWriter, r *http.Request, about Line, serve http.HandlerFunc) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		serve(w, r)
		return
	}
	seen := &changeWriter{ResponseWriter: w, status: http.StatusOK}
	serve(seen, r)
	about.Event, about.Result = Settings, OK
	if rest, ok := strings.CutPrefix(about.Target, "apps/"); ok {
		about.App, _, _ = strings.Cut(rest, "/")
	}
	about.Target, about.Detail = words(r.Method, about.Target), seen.detail
	if seen.status >= http.StatusBadRequest {
		about.Result, about.Reason = No, ReasonOf(answer.Parse(seen.status, nil))
	}
	l.Add(about)
}

// changeWriter remembers the status of an answer, and what was changed.
type changeWriter struct {
	http.ResponseWriter
	status int
	detail string
}

// WriteHeader implements [http.ResponseWriter].
func (w *changeWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Explain is what [answer.Explain] calls.
func (w *changeWriter) Explain(detail string) { w.detail = detail }

// Unwrap gives [http.ResponseController] what is below.
func (w *changeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
