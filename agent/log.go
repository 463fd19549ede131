package agent

import (
	"context"
	"log/slog"
	"maps"
	"sync"

	"ztm/agent/api"
)

// ringSize is how many lines `ztm log ep` can show.
const ringSize = 200

// ring keeps the last lines of a mesh's log in memory.
type ring struct {
	mu    sync.Mutex
	lines []api.LogEntry // guarded by mu
	next  int            // guarded by mu
	size  int
}

func newRing(size int) *ring { return &ring{size: size} }

func (r *ring) add(e api.LogEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < r.size {
		r.lines = append(r.lines, e)
		return
	}
	r.lines[r.next] = e
	r.next = (r.next + 1) % r.size
}

// Entries returns the lines, oldest first.
func (r *ring) entries() []api.LogEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]api.LogEntry{}, r.lines[r.next:]...), r.lines[:r.next]...)
}

// teeHandler logs to the process's log and, from level Info on, to the ring.
type teeHandler struct {
	slog.Handler
	sink sinkHandler
}

func tee(h slog.Handler, r *ring) slog.Handler { return teeHandler{h, sinkHandler{ring: r}} }

func (t teeHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || t.Handler.Enabled(ctx, l)
}

func (t teeHandler) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelInfo {
		t.sink.handle(rec)
	}
	if !t.Handler.Enabled(ctx, rec.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, rec)
}

func (t teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return teeHandler{t.Handler.WithAttrs(attrs), t.sink.with(attrs)}
}

func (t teeHandler) WithGroup(name string) slog.Handler {
	return teeHandler{t.Handler.WithGroup(name), t.sink}
}

// sinkHandler keeps messages and their attributes in the ring.
type sinkHandler struct {
	ring  *ring
	attrs map[string]string // set by With; not changed
}

func (s sinkHandler) with(attrs []slog.Attr) sinkHandler {
	all := maps.Clone(s.attrs)
	for _, a := range attrs {
		if a.Key != "mesh" { // the ring is of one mesh
			all = withAttr(all, a)
		}
	}
	return sinkHandler{s.ring, all}
}

func (s sinkHandler) handle(rec slog.Record) {
	all := maps.Clone(s.attrs)
	rec.Attrs(func(a slog.Attr) bool {
		all = withAttr(all, a)
		return true
	})
	s.ring.add(api.LogEntry{Time: rec.Time.UTC(), Level: rec.Level.String(), Message: rec.Message, Attrs: all})
}

func withAttr(all map[string]string, a slog.Attr) map[string]string {
	if all == nil {
		all = map[string]string{}
	}
	all[a.Key] = a.Value.Resolve().String()
	return all
}
