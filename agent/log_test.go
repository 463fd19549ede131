package agent

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"ztm/tunnel"
)

// A hub that was taken over must not fill the disk of its agents, of which each event could be a
// line.
func TestEventsOfAHubCauseFewLines(t *testing.T) {
	const events = 600
	m, ca := newTestMesh(t, rootUser, time.Now())
	hub := newFakeHub(t, ca)
	var refused atomic.Int64
	hub.on("POST "+tunnel.PathSign+"/x", func(w http.ResponseWriter, _ *http.Request) {
		refused.Add(1)
		w.WriteHeader(http.StatusNotFound)
	})
	hub.on("GET "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	hub.on("GET "+tunnel.PathEvents, func(w http.ResponseWriter, r *http.Request) {
		hub.streams.Events(w, r, func(ctx context.Context, send func(tunnel.Event)) {
			for i := range events {
				send(tunnel.Event{Type: tunnel.EventSign, Request: "x", Sign: &tunnel.SignRequest{Hub: true}})
				send(tunnel.Event{Type: tunnel.EventTrust, Version: uint64(i)})
				send(tunnel.Event{Type: tunnel.EventDialBack, Ticket: "none", Peer: m.agent.self})
			}
		})
	})
	start := time.Now()
	runMesh(t, m, hub)
	until(t, "the requests are answered", func() bool { return refused.Load() >= 50 })
	seconds := int(time.Since(start).Seconds()) + 1
	if got := len(m.recent.Entries()); got > 20+10*seconds {
		t.Errorf("%d events make %d lines in %d seconds", 3*events, got, seconds)
	}
}
