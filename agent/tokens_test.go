package agent

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/agent/tokens"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestATokenIsRevokedAtTheHubThatRedeemsIt(t *testing.T) {
	m, _, hubs := rootMesh(t, 2)
	ids := map[string]identity.ID{} // by address
	until(t, "both hubs are met", func() bool {
		for _, h := range m.control.Known() {
			if h.ID != "" {
				ids[h.Addresses[0]] = h.ID
			}
		}
		return len(ids) == 2
	})
	now := time.Now()
	var asked [2]atomic.Int32
	var all [2]identity.Invitation
	for i, h := range hubs {
		all[i] = identity.Invitation{User: "bob", Nonce: strings.Repeat(string('a'+rune(i)), 32), Uses: 2, Admitted: now, Expires: now.Add(time.Hour), Redeemer: ids[h.address]}
		if err := m.authority.Book.NoteIssued(all[i], now); err != nil {
			t.Fatal(err)
		}
	}
	for i, h := range hubs { // each keeps the CA key, and answers for whatever token
		for _, inv := range all {
			h.on("DELETE "+tunnel.PathTokens+"/"+inv.Nonce, func(w http.ResponseWriter, _ *http.Request) {
				if inv.Nonce == all[i].Nonce {
					asked[i].Add(1)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			h.on("GET "+tunnel.PathTokens+"/"+inv.Nonce, func(w http.ResponseWriter, _ *http.Request) {
				use := tunnel.TokenUse{}
				if inv.Nonce == all[i].Nonce {
					use.Used = 1
				}
				answer.JSON(w, use)
			})
		}
	}
	open, err := m.authority.Tokens(t.Context())
	if err != nil || len(open) != 2 {
		t.Fatalf("open: %+v, %v", open, err)
	}
	for _, k := range open {
		if !k.Elsewhere && k.Left != 1 {
			t.Errorf("of token %s %d uses are left", k.ID, k.Left)
		}
	}
	for i, inv := range all {
		if err := m.authority.Revoke(t.Context(), inv.Nonce); err != nil {
			t.Error(err)
		}
		if n := asked[i].Load(); n != 1 {
			t.Errorf("the hub that redeems it was asked %d times", n)
		}
	}
}

func TestATokenIsNotVoidWhereItsHubCannotBeReached(t *testing.T) {
	m, _, hubs := rootMesh(t, 1)
	now := time.Now()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	inv := identity.Invitation{User: "bob", Nonce: strings.Repeat("a", 32), Uses: 1, Admitted: now, Expires: now.Add(time.Hour), Redeemer: identity.IDOf(key.Public().(ed25519.PublicKey))}
	if err := m.authority.Book.NoteIssued(inv, now); err != nil {
		t.Fatal(err)
	}
	hubs[0].on("DELETE "+tunnel.PathTokens+"/"+inv.Nonce, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	hubs[0].on("GET "+tunnel.PathEndpoints+"/"+string(inv.Redeemer), func(w http.ResponseWriter, _ *http.Request) {
		answer.Fail(w, slog.New(slog.DiscardHandler), answer.Errorf(answer.NotFound, "no endpoint"))
	})
	if err := m.authority.Revoke(t.Context(), inv.Nonce); answer.CodeOf(err) != answer.Unavailable {
		t.Errorf("another hub has revoked it: %v", err)
	}
}

func TestARequestToJoinIsReadUpToItsLimit(t *testing.T) {
	a := newTestAgent(t)
	for _, more := range []int{0, 1} {
		body := "{}" + strings.Repeat(" ", limits.JoinBody-2+more)
		w := httptest.NewRecorder()
		a.postMesh(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
		if tooLong := strings.Contains(w.Body.String(), fmt.Sprint(limits.JoinBody)); tooLong != (more > 0) {
			t.Errorf("with %d bytes more than the limit: %d, %s", more, w.Code, w.Body)
		}
	}
}

// rootMeshes is two endpoints of root at one hub, which knows the second.
func rootMeshes(t *testing.T) (m, spare *mesh) {
	t.Helper()
	m, ca, hubs := rootMesh(t, 1)
	spare = meshOf(t, ca, rootUser)
	runMesh(t, spare, hubs[0])
	record, err := identity.SignRecord(identity.Record{ID: spare.agent.self, Name: "spare", Certificate: spare.Membership().Certificate}, spare.agent.key)
	if err != nil {
		t.Fatal(err)
	}
	hubs[0].on("GET "+tunnel.PathEndpoints+"/"+string(spare.agent.self), func(w http.ResponseWriter, _ *http.Request) {
		answer.JSON(w, tunnel.Entry{Record: record, Online: true})
	})
	return m, spare
}

func TestATokenIsRevokedAtTheEndpointThatRedeemsItBeforeItIsUsed(t *testing.T) {
	m, spare := rootMeshes(t)
	p, err := m.authority.Invite(t.Context(), "bob", nil, api.Invite{Redeemer: string(spare.agent.self)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.authority.Revoke(t.Context(), p.Token.ID()); err != nil {
		t.Fatal(err)
	}
	if open, err := m.authority.Tokens(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("open where it was made: %+v, %v", open, err)
	}
	key := identity.IDOf([]byte("a device"))
	inv := identity.Invitation{User: "bob", Nonce: p.Token.ID(), Uses: 1, Admitted: time.Now(), Expires: p.Token.Expires(), Redeemer: spare.agent.self}
	if err := spare.authority.Book.Redeem(inv, key, time.Now()); answer.CodeOf(err) != answer.Denied {
		t.Errorf("it is redeemed: %v", err)
	}
	if err := spare.authority.RevokeUntil("zz", time.Now()); answer.CodeOf(err) != answer.BadRequest {
		t.Errorf("what is no ID: %v", err)
	}
	w := httptest.NewRecorder()
	spare.serveTokens(w, httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/?until=soon", nil), "tokens", p.Token.ID())
	if w.Code != http.StatusBadRequest {
		t.Errorf("what is no time: %d, %s", w.Code, w.Body)
	}
}

func TestTheUsesOfATokenThatAnotherEndpointRedeemsAreSaidWhereItWasMade(t *testing.T) {
	m, spare := rootMeshes(t)
	p, err := m.authority.Invite(t.Context(), "bob", nil, api.Invite{Redeemer: string(spare.agent.self), Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	inv := identity.Invitation{User: "bob", Nonce: p.Token.ID(), Uses: 2, Admitted: time.Now(), Expires: p.Token.Expires(), Redeemer: spare.agent.self}
	for _, left := range []int{2, 1, 0} {
		open, err := m.authority.Tokens(t.Context())
		if err != nil || len(open) != min(left, 1) || left > 0 && (open[0].Left != left || open[0].Elsewhere) {
			t.Errorf("with %d left: %+v, %v", left, open, err)
		}
		if err := spare.authority.Book.Redeem(inv, identity.IDOf([]byte{byte(left)}), time.Now()); left > 0 && err != nil {
			t.Fatal(err)
		}
	}
}

func TestATokenOfBeforeARestoreIsNotOpen(t *testing.T) {
	m, _, _ := rootMesh(t, 1)
	for _, user := range []string{"old", "new"} {
		if _, err := m.authority.Invite(t.Context(), user, nil, api.Invite{}); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if user == "new" {
			at = at.Add(-time.Hour)
		}
		if err := tokens.MarkRestored(m.agent.db, at); err != nil {
			t.Fatal(err)
		}
		open, err := m.authority.Tokens(t.Context())
		if want := map[string]int{"old": 0, "new": 2}[user]; err != nil || len(open) != want {
			t.Errorf("%s: %+v, %v", user, open, err)
		}
	}
}

func TestATokenOfAUserWhoWasEvictedSinceIsNotOpen(t *testing.T) {
	m, _, hubs := rootMesh(t, 1)
	hubs[0].on("POST "+tunnel.PathTrust, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, user := range []string{"bob", "eve"} {
		if _, err := m.authority.Invite(t.Context(), user, nil, api.Invite{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.authority.Evict(t.Context(), "eve", true, ""); err != nil {
		t.Fatal(err)
	}
	if open, err := m.authority.Tokens(t.Context()); err != nil || len(open) != 1 || open[0].User != "bob" {
		t.Errorf("%+v, %v", open, err)
	}
}

func TestHubsThatShareAStoreRedeemATokenTogether(t *testing.T) {
	m, _, hubs := rootMesh(t, 1)
	status := tunnel.HubStatus{ID: identity.IDOf([]byte("hub")), KeepsCA: true}
	hubs[0].on("GET "+tunnel.PathHub, func(w http.ResponseWriter, _ *http.Request) { answer.JSON(w, status) })
	for _, shared := range []bool{false, true} {
		status.Shared = shared
		p, err := m.authority.Invite(t.Context(), "bob", nil, api.Invite{})
		want := status.ID
		if shared {
			want = m.verifier.Trust().Mesh()
		}
		if err != nil || p.Token.Redeemer() != want {
			t.Fatalf("hubs with a store: %v. It is redeemed by %s, want %s (%v)", shared, p.Token.Redeemer(), want, err)
		}
		var voided atomic.Int32
		if !shared {
			continue
		}
		hubs[0].on("DELETE "+tunnel.PathTokens+"/"+p.Token.ID(), func(w http.ResponseWriter, _ *http.Request) {
			voided.Add(1)
			w.WriteHeader(http.StatusNoContent)
		})
		hubs[0].on("GET "+tunnel.PathTokens+"/"+p.Token.ID(), func(w http.ResponseWriter, _ *http.Request) {
			answer.JSON(w, tunnel.TokenUse{})
		})
		if open, err := m.authority.Tokens(t.Context()); err != nil || len(open) != 2 || open[0].Elsewhere && open[1].Elsewhere {
			t.Errorf("open: %+v, %v", open, err)
		}
		if err := m.authority.Revoke(t.Context(), p.Token.ID()); err != nil || voided.Load() != 1 {
			t.Errorf("%d hubs were told that it is void: %v", voided.Load(), err)
		}
	}
}

func TestATokenOfAllHubsIsRevokedWhereTheyShareAStore(t *testing.T) {
	m, _, hubs := rootMesh(t, 2)
	now, all := time.Now(), m.verifier.Trust().Mesh()
	for i, alone := range hubs { // it keeps the CA key, and the other one has the store
		inv := identity.Invitation{User: "bob", Nonce: strings.Repeat(string('a'+rune(i)), 32), Uses: 2, Admitted: now, Expires: now.Add(time.Hour), Redeemer: all}
		if err := m.authority.Book.NoteIssued(inv, now); err != nil {
			t.Fatal(err)
		}
		var voided atomic.Bool
		for _, h := range hubs {
			on := func(method string, does func(w http.ResponseWriter)) {
				h.on(method+" "+tunnel.PathTokens+"/"+inv.Nonce, func(w http.ResponseWriter, r *http.Request) {
					if h == alone && r.URL.Query().Get("redeemer") == string(all) {
						answer.Fail(w, m.log, answer.Errorf(answer.Unavailable, "this hub has none"))
						return
					}
					does(w)
				})
			}
			on("GET", func(w http.ResponseWriter) {
				use := tunnel.TokenUse{}
				if h != alone {
					use.Used = 1
				}
				answer.JSON(w, use)
			})
			on("DELETE", func(w http.ResponseWriter) {
				if h != alone {
					voided.Store(true)
				}
				w.WriteHeader(http.StatusNoContent)
			})
		}
		open, err := m.authority.Tokens(t.Context())
		if err != nil || len(open) != 1 || !open[0].Elsewhere && open[0].Left != 1 {
			t.Errorf("open: %+v, %v", open, err)
		}
		if err := m.authority.Revoke(t.Context(), inv.Nonce); err != nil || !voided.Load() {
			t.Errorf("it is void where it is redeemed: %v (%v)", voided.Load(), err)
		}
	}
}
