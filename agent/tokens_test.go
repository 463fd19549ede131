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

	"ztm/agent/limits"
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
