// Package local is how an agent is asked by the machine it runs on: the door of the local API, for
// the user who runs the agent, and the counters, for those who watch the machine.
//
//	api.Listen (socket or port, and token)  -> Serve    -> guard -> the agent's handler
//	loopback.Listen (only if asked for)     -> Counters -> loopback.Guard -> /healthz, /metrics
//
// It knows no mesh: the agent gives it a handler and a [Source].
package local

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ztm/agent/api"
	"ztm/tunnel/answer"
	"ztm/tunnel/loopback"
)

// Limits of the local API.
const (
	headerTimeout = 10 * time.Second // for the header of a request to arrive
	maxHeader     = 64 << 10         // bytes
)

// Serve serves the local API until ctx ends, and closes ln. It returns nil then, once the listener
// is closed, and an error if it cannot accept connections before. token is what [api.Listen] gave.
// The context of a request ends with ctx.
func Serve(ctx context.Context, ln net.Listener, token string, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           loopback.Guard(guard(token, h, log)),
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		srv.Close()
	})()
	err := srv.Serve(ln)
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return err
}

// guard refuses requests without the token, and those that change something without a header that a
// form in a browser cannot send. An empty token lets nobody in.
func guard(token string, next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get(api.TokenHeader)), []byte(token)) != 1 {
			w.Header().Set("WWW-Authenticate", api.TokenHeader)
			answer.Fail(w, log, answer.Errorf(answer.NoToken, "the header %s is missing or wrong: the token is in the agent's directory", api.TokenHeader))
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get(api.ClientHeader) != "1" {
			answer.Fail(w, log, answer.Errorf(answer.Denied, "the header %s is missing", api.ClientHeader))
			return
		}
		next.ServeHTTP(w, r)
	})
}
