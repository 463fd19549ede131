// Package recent keeps the last lines of a log in memory, for `ztm log ep`.
package recent

import (
	"context"
	"log/slog"
	"maps"
	"sync"

	"ztm/agent/api"
)

// Lines keeps the last lines of a mesh's log in memory. Make it with [Keep]. Its methods may be
// called from any goroutine.
type Lines struct {
	mu    sync.Mutex
	lines []api.LogEntry // guarded by mu
	next  int            // guarded by mu
	size  int
}

// Keep makes a Lines of so many.
func Keep(size int) *Lines { return &Lines{size: size} }

func (r *Lines) add(e api.LogEntry) {
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
func (r *Lines) Entries() []api.LogEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]api.LogEntry{}, r.lines[r.next:]...), r.lines[:r.next]...)
}

// teeHandler logs to the process's log and, from level Info on, to the lines.
type teeHandler struct {
	slog.Handler
	sink sinkHandler
}

// Tee returns a handler that logs to h and keeps what is of level Info and above.
func Tee(h slog.Handler, r *Lines) slog.Handler { return teeHandler{h, sinkHandler{ring: r}} }

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

// sinkHandler keeps messages and their attributes in memory.
type sinkHandler struct {
	ring  *Lines
	attrs map[string]string // set by With; not changed
}

func (s sinkHandler) with(attrs []slog.Attr) sinkHandler {
	all := maps.Clone(s.attrs)
	for _, a := range attrs {
		if a.Key != "mesh" { // the lines are of one mesh
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
