package main

import (
	"net/http"
	"testing"

	"ztm/tunnel/identity/policy"
)

func TestADeviceThatJoinsWhileNoHolderIsOnlineLetsNobodyInWithoutAGrant(t *testing.T) {
	w := newWorld(t)
	stop := w.join("root", "root")
	w.setPolicy("root", func(s *policy.Source) { s.Mode = policy.Enforce })
	w.startAgent("srv")
	w.write("srv.pub", w.ztm("srv", "identity"))
	w.ztm("root", "invite", "alice", "--identity", w.path("srv.pub"), "--permit", w.path("srv.json"))
	stop()
	w.ztm("srv", "join", "demo", "--as", "ep-srv", "--permit", w.path("srv.json"))
	w.connected("srv")
	if p := w.policyOf("srv"); p.Version != 1 || p.Mode != policy.Enforce {
		t.Errorf("it has %+v", p)
	}
	w.ztm("srv", "terminal", "config", "--add-user", "bob")
	session := w.intruder("bob").session(t, w.endpointOf("srv"))
	if status, _ := open(t, session, way{path: "terminal/shell"}); status != http.StatusForbidden {
		t.Errorf("bob, whom the owner lets in and no grant, has a terminal: status %d", status)
	}
}
