package agent

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/limits"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// rootMesh is a running root endpoint with hubs that the test controls.
func rootMesh(t *testing.T, hubs int) (*mesh, *identity.CA, []*fakeHub) {
	t.Helper()
	m, ca := newTestMesh(t, rootUser, time.Now())
	var all []*fakeHub
	for range hubs {
		all = append(all, newFakeHub(t, ca))
	}
	runMesh(t, m, all...)
	return m, ca, all
}

func evict(t *testing.T, m *mesh, user string) api.Evicted {
	t.Helper()
	out, err := m.authority.Evict(t.Context(), user, true, "")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAHubThatRefusesAnEvictionDoesNotVetoIt(t *testing.T) {
	m, _, hubs := rootMesh(t, 1)
	hub := hubs[0]
	hub.refuse(errNo)
	out := evict(t, m, "bob")
	if out.Refused == "" || out.Version != 1 {
		t.Errorf("the eviction says %+v", out)
	}
	if !m.verifier.Trust().Voids("bob", time.Now()) {
		t.Error("it is not in force here")
	}
	if row := m.Membership(); !slices.Contains(row.Unsettled, "bob") || len(row.Trust) == 0 {
		t.Error("it is not kept for the next start")
	}

	hub.refuse(nil)
	if err := m.authority.Settle(t.Context(), hubSession(m)); err != nil {
		t.Fatal(err)
	}
	if len(m.authority.Unsettled()) != 0 || string(hub.list()) != string(m.verifier.Trust().Document()) {
		t.Errorf("after the hub has come round: %v is not settled", m.authority.Unsettled())
	}
}

func TestAnEvictionThatNoHubTakesGoesFromPeerToPeer(t *testing.T) {
	m, ca, hubs := rootMesh(t, 1)
	alice := meshOf(t, ca, "alice")
	runMesh(t, alice, hubs[0])
	if _, err := m.peers.Ping(t.Context(), alice.agent.self); err != nil {
		t.Fatal(err)
	}
	hubs[0].refuse(errNo)
	evict(t, m, "bob")
	until(t, "alice knows of the eviction", func() bool { return alice.verifier.Trust().Voids("bob", time.Now()) })
}

// A hub that was taken over says that it has taken an eviction, and tells nobody.
func TestAnEvictionThatTheHubKeepsToItselfGoesFromPeerToPeer(t *testing.T) {
	m, ca, hubs := rootMesh(t, 1)
	alice := meshOf(t, ca, "alice")
	runMesh(t, alice, hubs[0])
	if _, err := m.peers.Ping(t.Context(), alice.agent.self); err != nil {
		t.Fatal(err)
	}
	if out := evict(t, m, "bob"); out.Refused != "" || len(hubs[0].list()) == 0 {
		t.Fatalf("the hub has not taken the eviction: %+v", out)
	}
	until(t, "alice knows of the eviction", func() bool { return alice.verifier.Trust().Voids("bob", time.Now()) })
}

func TestAnEvictionThatOneHubRefusesIsTakenToTheOthers(t *testing.T) {
	m, _, hubs := rootMesh(t, 2)
	hubs[0].refuse(errNo)
	hubs[1].refuse(errNo)
	for _, h := range hubs { // whichever it is connected to
		if h.address != hubSession(m).Address() {
			h.refuse(nil)
		}
	}
	if out := evict(t, m, "bob"); out.Refused != "" || len(m.authority.Unsettled()) != 0 {
		t.Errorf("the eviction says %+v, %v is not settled", out, m.authority.Unsettled())
	}
}

func TestAnEvictionWithoutAHubIsInForceHere(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // it waits more than it works
	m, _ := newTestMesh(t, rootUser, time.Now())
	if out := evict(t, m, "bob"); out.Refused == "" {
		t.Errorf("the eviction says %+v", out)
	}
	if !m.verifier.Trust().Voids("bob", time.Now()) {
		t.Error("it is not in force")
	}
}

// firstEviction is the first trust list of a mesh, in which a user is evicted.
func firstEviction(t *testing.T, ca *identity.CA, user string) *identity.Trust {
	t.Helper()
	zero, err := identity.NewTrust(ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	list, err := zero.Evict(ca, user, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTwoEvictionsOfOneVersionAreBothKept(t *testing.T) {
	began := time.Now()
	m, ca, hubs := rootMesh(t, 1)
	hubs[0].refuse(errNo)
	evict(t, m, "bob")
	theirs := firstEviction(t, ca, "carol")
	hubs[0].refuse(nil)
	hubs[0].on("GET "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.Write(theirs.Document()) })
	if err := m.authority.Settle(t.Context(), hubSession(m)); err != nil {
		t.Fatal(err)
	}
	trust := m.verifier.Trust()
	for _, user := range []string{"bob", "carol"} {
		if !trust.Voids(user, began) {
			t.Errorf("version %d has lost the eviction of %s", trust.Version(), user)
		}
	}
	if string(hubs[0].list()) != string(trust.Document()) {
		t.Error("the hub has another list")
	}
}

// A peer brings the list of another endpoint of root while the hub looks at ours.
func TestAnEvictionHoldsThoughAnotherListComesMeanwhile(t *testing.T) {
	for name, refusal := range map[string]error{"and the hub takes it": nil, "and the hub refuses it": errNo} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			m, ca, hubs := rootMesh(t, 1)
			theirs := firstEviction(t, ca, "carol")
			hubs[0].refuse(refusal)
			var once sync.Once
			hubs[0].on("POST "+tunnel.PathTrust, func(w http.ResponseWriter, r *http.Request) {
				once.Do(func() {
					if err := m.authority.UpdateTrust(theirs.Document()); err != nil {
						t.Error(err)
					}
				})
				hubs[0].postTrust(w, r)
			})
			out := evict(t, m, "bob")
			if (out.Refused != "") != (refusal != nil) {
				t.Errorf("the eviction says %+v", out)
			}
			for _, user := range []string{"bob", "carol"} {
				if !m.verifier.Trust().Voids(user, began) {
					t.Errorf("the eviction of %s is lost", user)
				}
			}
		})
	}
}

func TestANewEvictionLosesNoneOfTheHubs(t *testing.T) {
	began := time.Now()
	m, ca, hubs := rootMesh(t, 1)
	ours := firstEviction(t, ca, "bob") // of an endpoint whose list no hub took, by a peer
	if err := m.authority.UpdateTrust(ours.Document()); err != nil {
		t.Fatal(err)
	}
	theirs := firstEviction(t, ca, "carol")
	hubs[0].on("GET "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.Write(theirs.Document()) })
	evict(t, m, "dave")
	for _, user := range []string{"bob", "carol", "dave"} {
		if !m.verifier.Trust().Voids(user, began) {
			t.Errorf("the eviction of %s is lost", user)
		}
	}
}

func TestAnEvictionCoversPermitsOfAClockThatIsAhead(t *testing.T) {
	m, _, _ := rootMesh(t, 1)
	ahead := time.Now().Add(20 * time.Minute) // of another root endpoint, which made a token
	evict(t, m, "bob")
	trust := m.verifier.Trust()
	if !trust.Voids("bob", ahead) {
		t.Error("what was made 20 minutes ahead admits bob")
	}
	again := trust.Admission("bob", time.Now())
	if trust.Voids("bob", again) {
		t.Error("a new invitation is void")
	}
	evict(t, m, "bob")
	if !m.verifier.Trust().Voids("bob", again) {
		t.Error("a second eviction does not cover the new invitation")
	}
}

func TestNothingIsSignedWithATimeAheadOfTheHubs(t *testing.T) {
	m, _, hubs := rootMesh(t, 1)
	hub := time.Now()
	m.agent.clock.Raise(hub.Add(300 * 24 * time.Hour))
	evict(t, m, "bob")
	if issued := m.verifier.Trust().Issued(); issued.After(hub.Add(authority.MaxHubAhead)) {
		t.Errorf("the list says %v, the hub %v", issued, hub)
	}
	if _, err := m.policy.Propose(t.Context(), func(*policy.Source) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if issued := m.policy.Head().Issued.Time(); issued.After(hub.Add(authority.MaxHubAhead)) {
		t.Errorf("the policy says %v, the hub %v", issued, hub)
	}
	if _, err := m.authority.Rotate(t.Context(), time.Hour); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("a rotation by a clock that is ahead: %v", err)
	}
	hubs[0].on("GET "+tunnel.PathHub, func(w http.ResponseWriter, _ *http.Request) { answer.JSON(w, tunnel.HubStatus{Time: 1}) })
	if out := evict(t, m, "carol"); out.Version != 2 {
		t.Errorf("a hub that says it is 1970: %+v", out)
	}
}

func TestAUserThatNeverWasIsNotEvictedByMistake(t *testing.T) {
	m, _, _ := rootMesh(t, 1)
	if _, err := m.authority.Evict(t.Context(), "bbo", false, ""); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("a typo: %v", err)
	}
	if v := m.verifier.Trust().Version(); v != 0 {
		t.Errorf("version %d", v)
	}
	carol := someone(t, "ep-carol", "carol") // whom the hub hides
	met := subjectOf(carol)
	met.Admitted = time.Now()
	m.known.Remember(carol, met, nil, time.Now())
	if out, err := m.authority.Evict(t.Context(), "carol", false, ""); err != nil || out.Already || out.Version != 1 || out.Endpoints != 1 {
		t.Errorf("one whose endpoint this device has met: %+v, %v", out, err)
	}
	if _, err := m.authority.Invite(t.Context(), "bob", nil, api.Invite{}); err != nil {
		t.Fatal(err)
	}
	if out, err := m.authority.Evict(t.Context(), "bob", false, ""); err != nil || out.Already || out.Version != 2 {
		t.Errorf("one who was invited here: %+v, %v", out, err)
	}
	if out, err := m.authority.Evict(t.Context(), "bob", false, ""); err != nil || !out.Already || out.Version != 2 {
		t.Errorf("once more: %+v, %v", out, err)
	}
	if _, err := m.authority.Invite(t.Context(), "bob", nil, api.Invite{}); err != nil {
		t.Fatal(err)
	}
	if out, err := m.authority.Evict(t.Context(), "bob", false, ""); err != nil || out.Already || out.Version != 3 {
		t.Errorf("after another invitation: %+v, %v", out, err)
	}
}

func TestADirectoryWithoutEndIsNotFollowed(t *testing.T) {
	appstest.Long(t)
	m, ca, hubs := rootMesh(t, 1)
	record := memberRecord(t, ca, "alice")
	asked := 0
	hubs[0].on("GET "+tunnel.PathEndpoints, func(w http.ResponseWriter, r *http.Request) {
		asked++
		answer.JSON(w, tunnel.Page{Entries: []tunnel.Entry{{Record: record}}, More: true})
	})
	all, err := m.Endpoints(t.Context(), apps.Filter{})
	if err != nil || len(all) != 1 || asked != 2 {
		t.Errorf("one endpoint again and again: %d endpoints of %d pages, %v", len(all), asked, err)
	}
	asked = 0
	junk := make([]tunnel.Entry, 1000)
	hubs[0].on("GET "+tunnel.PathEndpoints, func(w http.ResponseWriter, r *http.Request) {
		if offset, _ := strconv.Atoi(r.URL.Query().Get("offset")); offset > asked {
			asked = offset
		}
		answer.JSON(w, tunnel.Page{Entries: junk, More: true})
	})
	if _, err := m.authority.Admissions(t.Context(), "alice"); err != nil || asked >= limits.Directory {
		t.Errorf("records that do not verify: asked up to %d, %v", asked, err)
	}
}

func TestAnInvitationOfAnEvictedUserSaysThatGrantsArePassedOn(t *testing.T) {
	m, _, _ := rootMesh(t, 1)
	warnings := func() []string {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
		r.SetPathValue("user", "bob")
		m.postPermit(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("status %d, %s", w.Code, w.Body)
		}
		return w.Header().Values(api.WarningHeader)
	}
	if got := warnings(); len(got) != 0 {
		t.Errorf("a new user: %q", got)
	}
	evict(t, m, "bob")
	if got := warnings(); len(got) != 1 {
		t.Errorf("one who was evicted: %q", got)
	}
}

func TestAnInvitationThatMakesNoSenseIsRefused(t *testing.T) {
	m, _, _ := rootMesh(t, 1)
	for what, in := range map[string]api.Invite{
		"too short":                   {Expires: 1},
		"too many uses":               {Uses: identity.MaxUses + 1},
		"a hub that keeps no CA":      {Redeemer: api.RedeemerHub},
		"an endpoint that is not one": {Redeemer: strings.Repeat("a", 32)},
	} {
		if _, err := m.authority.Invite(t.Context(), "bob", nil, in); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestAnEvictionThatNoHubHasTakenIsShownToTheHubAfterARotationElsewhere(t *testing.T) {
	m, ca, hubs := rootMesh(t, 1)
	hub := hubs[0]
	before := m.verifier.Trust()
	hub.refuse(errNo)
	evict(t, m, "bob")
	own := m.verifier.Trust()

	next, err := ca.Successor(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := before.Rotate(ca, next, time.Now().Add(time.Hour), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	shown := false
	hub.on("GET "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.Write(rotated.Document()) })
	hub.on("POST "+tunnel.PathTrust, func(w http.ResponseWriter, r *http.Request) {
		doc, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		shown = shown || err == nil && bytes.Equal(doc, own.Document())
		answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(answer.Conflict, "it is kept for the holder of the key"))
	})
	m.authority.SyncTrust(hubSession(m), tunnel.Event{Version: rotated.Version(), Sum: rotated.Head().Sum})
	until(t, "the hub is shown the eviction", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return shown
	})

	// The holder of the new key has united the two.
	united, err := rotated.Unite(next, time.Now(), own.Document())
	if err != nil {
		t.Fatal(err)
	}
	hub.on("GET "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.Write(united.Document()) })
	hub.on("POST "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	m.authority.SyncTrust(hubSession(m), tunnel.Event{Version: united.Version(), Sum: united.Head().Sum})
	if now := m.verifier.Trust(); now.Newest() != next.ID() || !now.Holds(own) || len(m.authority.Unsettled()) != 0 {
		t.Errorf("version %d is in force, and %q are not settled", now.Version(), m.authority.Unsettled())
	}
}

func TestARotationTakesAllHubs(t *testing.T) {
	m, _, hubs := rootMesh(t, 2)
	until(t, "both hubs are met", func() bool {
		met := 0
		for _, h := range m.control.Known() {
			if h.ID != "" {
				met++
			}
		}
		return met == 2
	})
	status := func(s tunnel.HubStatus) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { answer.JSON(w, s) }
	}
	hubs[0].on("GET "+tunnel.PathHub, status(tunnel.HubStatus{Links: 1})) // nothing is wrong with this one
	hubs[1].on("GET "+tunnel.PathHub, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if _, err := m.authority.Rotate(t.Context(), time.Hour); answer.CodeOf(err) != answer.Unavailable {
		t.Errorf("with a hub that does not answer: %v", err)
	}
	hubs[1].on("GET "+tunnel.PathHub, status(tunnel.HubStatus{Trust: 7}))
	if _, err := m.authority.Rotate(t.Context(), time.Hour); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("with a hub that has another list: %v", err)
	}
	hubs[1].on("GET "+tunnel.PathHub, status(tunnel.HubStatus{}))
	if _, err := m.authority.Rotate(t.Context(), time.Hour); answer.CodeOf(err) != answer.Unavailable {
		t.Errorf("with hubs that do not hear each other: %v", err)
	}
	if v := m.verifier.Trust().Version(); v != 0 {
		t.Errorf("version %d is in force", v)
	}
	hubs[1].on("GET "+tunnel.PathHub, status(tunnel.HubStatus{Links: 1}))
	if _, err := m.authority.Rotate(t.Context(), time.Hour); err != nil {
		t.Errorf("with both: %v", err)
	}
}
