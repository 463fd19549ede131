package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/tunnel/identity/policy"
)

func TestWhatADeviceSaysOfItselfGivesItNothing(t *testing.T) {
	w := threeUsers(t)
	for _, name := range []string{"office", "bob"} { // each has all labels of the policy, by its own word
		w.call(name, http.MethodPost, api.EndpointPath("demo", w.endpointOf(name), "labels"), []string{"kind=till", "site=12"})
	}
	w.ztm("office", "terminal", "config", "--add-user", "bob")
	w.ztm("office", "script", "config", "--add-user", "bob")
	w.setPolicy("root", func(s *policy.Source) {
		s.Mode, s.Users["bob"] = policy.Enforce, policy.User{}
		bob := []policy.Who{{Name: "bob", Added: 1}}
		s.Grants = []policy.Grant{
			{Name: "from", Who: bob, To: []string{"terminal"}, At: []string{"*"}, From: []string{"label:kind=till"}},
			{Name: "at", Who: bob, To: []string{"script"}, At: []string{"label:site=12"}, From: []string{"*"}},
		}
	})
	w.until("it is enforced", func() error { return w.enforced("office", 1) })
	if out := w.ztm("bob", "can", "--at", "ep-office"); strings.Contains(out, "terminal") || strings.Contains(out, "script") {
		t.Errorf("labels of its own have given a device:\n%s", out)
	}
	session := w.intruder("bob").session(t, w.endpointOf("office"))
	for _, claim := range []url.Values{nil, {"user": {"alice"}}, {"peer": {string(w.endpointOf("office"))}, "name": {"ep-office"}}, {"labels": {"kind=till"}, "root": {"true"}}} {
		if status, _ := open(t, session, way{path: "terminal/shell", query: claim}); status != http.StatusForbidden {
			t.Errorf("with %v in the query a device without a grant has a terminal: status %d", claim, status)
		}
	}
	w.ztm("root", "policy", "label", "ep-bob", "kind=till")
	w.until("the label that root gives it counts", func() error { return w.enforced("office", 2) })
	if out := w.ztm("bob", "can", "--at", "ep-office"); !strings.Contains(out, "terminal") || strings.Contains(out, "script") {
		t.Errorf("the label that root has given it gives it:\n%s", out)
	}
}
