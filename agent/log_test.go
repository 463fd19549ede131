package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel"
)

func TestTheRingKeepsAttributesApart(t *testing.T) {
	r := newRing(2)
	log := slog.New(tee(slog.DiscardHandler, r)).With("mesh", "demo", "app", "tunnel")
	log.Info("one")
	log.With("peer", "ID").Warn("two", "err", errors.New("no way"))
	log.Info("three", "peer", "other")
	type line struct {
		Message string
		Attrs   map[string]string
	}
	var got []line
	for _, e := range r.entries() {
		got = append(got, line{e.Message, e.Attrs})
	}
	want := []line{
		{"two", map[string]string{"app": "tunnel", "peer": "ID", "err": "no way"}},
		{"three", map[string]string{"app": "tunnel", "peer": "other"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

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
	if got := len(m.ring.entries()); got > 20+10*seconds {
		t.Errorf("%d events make %d lines in %d seconds", 3*events, got, seconds)
	}
}
