package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
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
	setHubs(t, m, append(m.Membership().Hubs, "127.0.0.1:1"))
	if got := status()["127.0.0.1:1"]; got != api.Unreachable {
		t.Errorf("one that did not answer is %q", got)
	}
}

// A hub that was set up anew knows no endpoint that is offline. Their certificates are good all the same.
func TestUsersAreThoseOfCertificatesAndTokensToo(t *testing.T) {
	m, ca, hubs := rootMesh(t, 1)
	bob := memberRecord(t, ca, "bob")
	list := []tunnel.Entry{{Record: bob, Online: true}}
	hubs[0].on("GET "+tunnel.PathEndpoints, func(w http.ResponseWriter, _ *http.Request) { answer.JSON(w, tunnel.Page{Entries: list}) })
	frank, gone := identity.IDOf([]byte("frank")), identity.IDOf([]byte("gone"))
	for id, user := range map[identity.ID]string{frank: "frank", gone: "gone"} {
		if err := m.NoteAdmitted(id, user, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	evict(t, m, "gone")
	if _, err := m.authority.Invite(t.Context(), "dora", nil, api.Invite{}); err != nil {
		t.Fatal(err)
	}
	users := func() map[string]api.User {
		w := httptest.NewRecorder()
		m.getUsers(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		out := map[string]api.User{}
		for _, u := range decode[[]api.User](t, w) {
			out[u.Name] = u
		}
		return out
	}
	got := users()
	if u := got["bob"]; len(u.Endpoints) != 1 || len(u.Devices) != 1 || u.Devices[0].Until.IsZero() {
		t.Errorf("one of the directory: %+v", u)
	}
	if u := got["frank"]; len(u.Endpoints) != 0 || len(u.Devices) != 1 || u.Devices[0].ID != frank || u.Devices[0].By != m.Membership().Name {
		t.Errorf("one who was admitted here: %+v", u)
	}
	if u := got["dora"]; len(u.Devices) != 0 || u.Invited.IsZero() {
		t.Errorf("one who has a token: %+v", u)
	}
	if u, listed := got["gone"]; listed {
		t.Errorf("one who was evicted: %+v", u)
	}
	later := time.Now().Add(25 * time.Hour) // no eviction from before reaches as far
	if err := m.NoteAdmitted(gone, "gone", later, time.Now()); err != nil {
		t.Fatal(err)
	}
	list = append(list, tunnel.Entry{Record: admittedRecord(t, ca, "back", later), Online: true})
	got = users()
	if u := got["gone"]; len(u.Devices) != 1 || u.Devices[0].By != m.Membership().Name || u.Devices[0].Admitted.After(time.Now()) {
		t.Errorf("one who was evicted and admitted again here: %+v", u)
	}
	if u := got["back"]; len(u.Devices) != 1 || !u.Devices[0].Admitted.IsZero() {
		t.Errorf("one who was evicted and admitted again elsewhere: %+v", u)
	}
	open, err := m.authority.Tokens(t.Context())
	if err != nil || len(open) != 1 {
		t.Fatal(open, err)
	}
	if err := m.authority.Revoke(t.Context(), open[0].ID); err != nil {
		t.Fatal(err)
	}
	if u, listed := users()["dora"]; listed {
		t.Errorf("one whose token was revoked: %+v", u)
	}
}

// counting is an app with a counter of a peer.
type counting struct {
	apps.App
	of identity.ID
}

func (c counting) Metrics(w *metric.Writer) {
	w.With("peer", string(c.of)).Counter("x_total", "Of a test.", 1)
}

func TestTheLogAndTheCountersOfAMeshNameItsPeers(t *testing.T) {
	m, _ := newTestMesh(t, "bob", time.Now())
	alice := someone(t, "ep-alice", "alice")
	m.known.Remember(alice, subjectOf(alice), nil, time.Now())
	m.log.Info("a line", "peer", alice.ID)
	lines := m.recent.Entries()
	if line := lines[len(lines)-1]; line.Attrs["peer"] != string(alice.ID) || line.Attrs["name"] != alice.Name {
		t.Errorf("the line says %v", line.Attrs)
	}
	m.apps = map[string]apps.App{"x": counting{of: alice.ID}}
	var set metric.Set
	if err := (counters{m.agent}).Counters(&set, ""); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	set.WriteTo(&out)
	if want := `peer="` + string(alice.ID) + `",endpoint="ep-alice"`; !strings.Contains(out.String(), want) {
		t.Errorf("no counter has %s:\n%s", want, out.String())
	}
}
