package seal

import (
	"net/http"
	"testing"

	"ztm/tunnel/flow"
	"ztm/tunnel/flow/flowtest"
)

func TestASealedSessionIsASession(t *testing.T) {
	m := newMembers(t, "alice", "bob")
	flowtest.Run(t, func(t testing.TB, handler http.HandlerFunc) flow.Session {
		s, _, _, err := connect(t, m[0], m[1], m[1].id, handler)
		if err != nil {
			t.Fatal(err)
		}
		if s.Peer().ID != m[1].id || s.Peer().User != "bob" {
			t.Errorf("the peer is %+v", s.Peer())
		}
		return s
	})
}
