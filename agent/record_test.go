package agent

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"ztm/tunnel"
)

func TestARecordThatTheHubRefusedIsPublishedAgain(t *testing.T) {
	m, ca := newTestMesh(t, rootUser, time.Now())
	hub := newFakeHub(t, ca)
	var mu sync.Mutex
	var offers []string // as the hub knows them; guarded by mu
	refuse := false     // guarded by mu
	hub.on("PUT "+tunnel.PathEndpoints+"/"+string(m.agent.self), func(w http.ResponseWriter, r *http.Request) {
		doc, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if refuse {
			refuse = false
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		rec, _, err := m.verifier.InspectRecord(doc)
		if err != nil {
			t.Error(err)
		}
		offers = rec.Offers
	})
	runMesh(t, m, hub)
	mu.Lock()
	refuse = true
	mu.Unlock()
	m.control.Offer("tunnel", []string{"tcp/db"})
	until(t, "the hub knows of the tunnel", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(offers, "tunnel/tcp/db")
	})
}
