package local

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"ztm/tunnel/answer"
	"ztm/tunnel/loopback"
	"ztm/tunnel/metric"
)

// Source is what the counters are of. Its methods may be called from any goroutine.
type Source interface {
	// Health returns nil while every mesh is connected, else what is missing.
	Health() error

	// Counters adds the counters of a mesh, or of all where mesh is "". A mesh that is not there is
	// an error.
	Counters(set *metric.Set, mesh string) error
}

// CheckCounters returns an error unless the address is "" (no counters) or of this machine alone.
func CheckCounters(address string) error {
	if address == "" {
		return nil
	}
	if err := loopback.Check(address); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// Counters serves counters for Prometheus until ctx ends, and closes ln:
//
//	/metrics         the agent, its meshes and their apps
//	/metrics/MESH    that mesh alone
//	/healthz         200 while every mesh is connected, otherwise 503
//
// What they show (names of meshes, tunnels and targets) is for this machine's users.
func Counters(ctx context.Context, ln net.Listener, s Source, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Health(); err != nil {
			answer.Fail(w, log, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	collect := func(w http.ResponseWriter, r *http.Request) {
		var set metric.Set
		if err := s.Counters(&set, r.PathValue("mesh")); err != nil {
			answer.Fail(w, log, err)
			return
		}
		set.Answer(w)
	}
	mux.HandleFunc("GET /metrics", collect)
	mux.HandleFunc("GET /metrics/{mesh}", collect)
	return loopback.Serve(ctx, ln, mux, log)
}
