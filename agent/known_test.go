package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
)

func TestTheLastKnownDirectoryIsShownWhileTheHubIsAway(t *testing.T) {
	m, ca, hubs := rootMesh(t, 1)
	record := memberRecord(t, ca, "alice")
	hubs[0].on("GET "+tunnel.PathEndpoints, func(w http.ResponseWriter, _ *http.Request) {
		answer.JSON(w, tunnel.Page{Entries: []tunnel.Entry{{Record: record, Online: true}}})
	})
	if all, err := m.shown(t.Context(), httptest.NewRecorder(), apps.Filter{}); err != nil || len(all) != 1 || !all[0].Online {
		t.Fatalf("with the hub: %v, %v", all, err)
	}
	hubs[0].on("GET "+tunnel.PathEndpoints, func(w http.ResponseWriter, _ *http.Request) {
		answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(answer.Unavailable, "away"))
	})
	w := httptest.NewRecorder()
	all, err := m.shown(t.Context(), w, apps.Filter{Keyword: "alice"})
	if err != nil || len(all) != 1 || all[0].Name != "ep-alice" || all[0].Online || !all[0].Unknown {
		t.Errorf("without the hub: %v, %v", all, err)
	}
	if len(w.Header().Values(api.WarningHeader)) != 1 {
		t.Error("nobody is told that this is old")
	}
	if all, err := m.shown(t.Context(), w, apps.Filter{Name: "other"}); err != nil || len(all) != 0 {
		t.Errorf("another filter: %v, %v", all, err)
	}
	evict(t, m, "alice")
	if all, err := m.shown(t.Context(), w, apps.Filter{}); err != nil || len(all) != 0 {
		t.Errorf("after the eviction of its user: %v, %v", all, err)
	}
}

// Who looks at a table does not wait for a hub that was there a moment ago as a tunnel does.
func TestWhatIsKnownIsShownWithoutAWaitForTheHub(t *testing.T) {
	m, _ := newTestMesh(t, "bob", time.Now()) // it does not run, so no hub comes
	alice := someone(t, "ep-alice", "alice")
	m.known.Remember(alice, subjectOf(alice), nil, time.Now())
	ctx, cancel := m.soon(t.Context())
	defer cancel()
	if _, limited := ctx.Deadline(); !limited {
		t.Error("a question that can be answered waits for the hub")
	}
	w := httptest.NewRecorder()
	if e, err := m.shownOne(t.Context(), w, alice.ID); err != nil || e.Name != alice.Name || len(w.Header().Values(api.WarningHeader)) != 1 {
		t.Errorf("got %v, %v", e, err)
	}

	other, _ := newTestMesh(t, "bob", time.Now())
	ctx, cancel = other.soon(t.Context())
	defer cancel()
	if _, limited := ctx.Deadline(); limited {
		t.Error("a question that the hub alone can answer does not wait for it")
	}
}

func TestAnUnknownDirectoryIsAnError(t *testing.T) {
	m, _, hubs := rootMesh(t, 1)
	hubs[0].on("GET "+tunnel.PathEndpoints, func(w http.ResponseWriter, _ *http.Request) {
		answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(answer.Unavailable, "away"))
	})
	if _, err := m.shown(t.Context(), httptest.NewRecorder(), apps.Filter{}); answer.CodeOf(err) != answer.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestAHubThatIsNotNeededIsNotCalledUnreachable(t *testing.T) {
	m, _, hubs := rootMesh(t, 3)
	status := func() map[string]api.HubStatus {
		w := httptest.NewRecorder()
		m.getHubs(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		out := map[string]api.HubStatus{}
		for _, h := range decode[[]api.Hub](t, w) {
			out[h.Address] = h.Status
		}
		return out
	}
	until(t, "two hubs are attached and one is not", func() bool {
		count := map[api.HubStatus]int{}
		for _, h := range hubs {
			count[status()[h.address]]++
		}
		return count[api.Attached] == 2 && count[api.HubStandby] == 1
	})
	m.row.Hubs = append(m.row.Hubs, "127.0.0.1:1")
	if got := status()["127.0.0.1:1"]; got != api.Unreachable {
		t.Errorf("one that did not answer is %q", got)
	}
}
