// Package away forgets endpoints that went away:
//
//	ephemeral ones   with their names, a pause after they have disconnected
//	others           after a longer time, if there is one; their names are kept for their users
//
// Who comes back registers anew. A hub that has just started does not know since when an endpoint is
// away, and counts from its start.
package away

import (
	"bytes"
	"log/slog"
	"sync"
	"time"

	"ztm/hub/directory"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// EphemeralAfter is the pause in which an ephemeral endpoint may connect again.
const EphemeralAfter = 5 * time.Minute

// Watch forgets the endpoints of a directory. All fields are set, and constant; its methods may be
// called from any goroutine.
type Watch struct {
	Directory directory.Directory
	Verifier  *identity.Verifier
	Log       *slog.Logger
	Since     time.Time     // when the hub has started
	Pause     time.Duration // of ephemeral endpoints
	After     time.Duration // of others; 0: never

	// Gone is told of each ephemeral endpoint that was forgotten, and the time of its record: other
	// hubs may not have seen that it went. It must not block.
	Gone func(id identity.ID, recorded unixtime.Millis)

	leavers leavers
}

// leavers are ephemeral endpoints that are offline, and since when. The zero value is empty.
type leavers struct {
	mu    sync.Mutex
	since map[identity.ID]time.Time
}

// add notes that an endpoint is offline.
func (l *leavers) add(id identity.ID, now time.Time) {
	l.mu.Lock()
	if l.since == nil {
		l.since = map[identity.ID]time.Time{}
	}
	l.since[id] = now
	l.mu.Unlock()
}

// has reports whether an endpoint is noted.
func (l *leavers) has(id identity.ID) bool {
	l.mu.Lock()
	_, ok := l.since[id]
	l.mu.Unlock()
	return ok
}

// due takes out those that have been offline for a time.
func (l *leavers) due(now time.Time, pause time.Duration) (ids []identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, since := range l.since {
		if now.Sub(since) >= pause {
			ids = append(ids, id)
			delete(l.since, id)
		}
	}
	return ids
}

// Left notes that an endpoint has disconnected, if it is ephemeral.
func (w *Watch) Left(id identity.ID, now time.Time) {
	if e, err := w.Directory.Entry(id); err == nil && w.ephemeral(e) {
		w.leavers.add(id, now)
	}
}

func (w *Watch) ephemeral(e tunnel.Entry) bool {
	r, _, err := w.Verifier.InspectRecord(e.Record)
	return err == nil && r.Ephemeral
}

// mark is in the record of an ephemeral endpoint, which has one form only.
var mark = []byte(`"ephemeral":true`)

// Find notes the ephemeral endpoints that are offline and of which the hub has not seen the end: they
// were here in an earlier run, or on another hub.
func (w *Watch) Find(now time.Time) {
	w.each(func(e tunnel.Entry) {
		if e.Online || !bytes.Contains(e.Record, mark) { // thousands are not read and verified for a few
			return
		}
		if r, _, err := w.Verifier.InspectRecord(e.Record); err == nil && r.Ephemeral && !w.leavers.has(r.ID) {
			w.leavers.add(r.ID, now)
		}
	})
}

// each calls f for each entry of the directory.
func (w *Watch) each(f func(tunnel.Entry)) {
	for offset, more := 0, true; more; {
		page := w.Directory.List(directory.Filter{Offset: offset})
		for _, e := range page.Entries {
			f(e)
		}
		offset += len(page.Entries)
		more = page.More && len(page.Entries) > 0
	}
}

// Forget forgets the endpoints whose time is over.
func (w *Watch) Forget(now time.Time) {
	w.Find(now)
	w.ForgetLeavers(now)
	w.forgetAway(now)
}

// ForgetLeavers forgets ephemeral endpoints that did not come back.
func (w *Watch) ForgetLeavers(now time.Time) {
	gone, recorded := map[identity.ID]struct{}{}, map[identity.ID]unixtime.Millis{}
	for _, id := range w.leavers.due(now, w.Pause) {
		e, err := w.Directory.Entry(id)
		if err != nil || e.Online {
			continue
		}
		gone[id] = struct{}{}
		if r, _, err := w.Verifier.InspectRecord(e.Record); err == nil {
			recorded[id] = r.Time
		}
	}
	w.forget(gone, false)
	for id, time := range recorded {
		w.Gone(id, time)
	}
}

// forgetAway forgets endpoints that have been away for long.
func (w *Watch) forgetAway(now time.Time) {
	if w.After == 0 {
		return
	}
	gone := map[identity.ID]struct{}{}
	w.each(func(e tunnel.Entry) {
		seen := e.Seen.Time()
		if seen.Before(w.Since) {
			seen = w.Since
		}
		if e.Online || now.Sub(seen) < w.After {
			return
		}
		if r, _, err := w.Verifier.InspectRecord(e.Record); err == nil {
			gone[r.ID] = struct{}{}
		}
	})
	w.forget(gone, true)
}

// forget removes endpoints from the directory, and keeps their names for their users if keep says
// so.
func (w *Watch) forget(gone map[identity.ID]struct{}, keep bool) {
	if len(gone) == 0 {
		return
	}
	n, err := w.Directory.Remove(keep, func(sub identity.Subject) bool {
		_, ok := gone[sub.ID]
		return ok
	})
	if err != nil {
		w.Log.Error("cannot save the directory", "err", err)
	}
	w.Log.Info("endpoints that were away were forgotten", "endpoints", n)
}
