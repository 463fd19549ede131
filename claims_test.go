package main

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/seal"
	"ztm/tunnel/unixtime"
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
		s.Endpoints["till"] = policy.Endpoint{ID: w.endpointOf("root"), Labels: []string{"kind=till"}}
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
	till := string(w.endpointOf("root")) // which has what the grant is for
	for _, claim := range []url.Values{nil, {"peer": {till}, "id": {till}, "from": {till}, "ep": {till}, "name": {"till"}}, {"user": {"alice"}}, {"peer": {string(w.endpointOf("office"))}, "name": {"ep-office"}}, {"labels": {"kind=till"}, "root": {"true"}}} {
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

// Each endpoint of a user has an admission and an ID of its own. Neither gives the other what it has,
// whichever comes first, and an eviction ends the older admission alone.
func TestEachEndpointOfAUserIsJudgedByItself(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	w.ztm("office", "terminal", "config", "--add-user", "bob", "--add-user", "carol")
	w.ztm("office", "script", "config", "--add-user", "bob")
	laptop := w.intruderAdmitted("bob", time.Now().Add(-time.Hour))
	phone := w.intruderAdmitted("bob", time.Now().Add(48*time.Hour)) // later than the eviction below reaches
	grant := func(more ...policy.Grant) {
		w.setPolicy("root", func(s *policy.Source) {
			s.Mode, s.Users["bob"], s.Users["carol"] = policy.Enforce, policy.User{}, policy.User{}
			s.Endpoints["laptop"], s.Endpoints["phone"] = policy.Endpoint{ID: laptop.id}, policy.Endpoint{ID: phone.id}
			bob := []policy.Who{{Name: "bob", Added: unixtime.Of(time.Now())}}
			s.Grants = append([]policy.Grant{
				{Name: "laptop", Who: bob, To: []string{"terminal"}, At: []string{"*"}, From: []string{"laptop"}},
				{Name: "phone", Who: bob, To: []string{"script"}, At: []string{"*"}, From: []string{"phone"}},
			}, more...)
		})
	}
	grant(policy.Grant{Name: "carol", Who: []policy.Who{{Name: "carol", Added: 1}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}})
	w.until("it is enforced", func() error { return w.enforced("office", 1) })
	shell, script := way{path: "terminal/shell"}, way{path: "script/run"}
	office := w.endpointOf("office")
	sessions := map[string]*seal.Session{"laptop": laptop.session(t, office), "phone": phone.session(t, office)}
	ends := map[string]<-chan struct{}{}
	for _, order := range [][]string{{"laptop", "phone"}, {"phone", "laptop"}} {
		for _, who := range order {
			for what, ask := range map[string]way{"laptop": shell, "phone": script} {
				status, ended := open(t, sessions[who], ask)
				if want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[who == what]; status != want {
					t.Errorf("the %s asks for what the %s has: status %d, want %d", who, what, status, want)
				}
				if who == what {
					ends[who] = ended
				}
			}
		}
	}
	_, other := open(t, w.intruder("carol").session(t, office), shell)
	grant()
	w.until("another version has cut what it takes away", func() error {
		select {
		case <-other:
			return w.enforced("office", 2)
		default:
			return errors.New("it runs")
		}
	})
	for who, ended := range ends {
		open(t, sessions[who], way{path: "nothing"}) // what was cut is known before this is answered
		select {
		case <-ended:
			t.Errorf("a change ended what the %s still has", who)
		default:
		}
	}
	w.ztm("root", "evict", "bob", "--force")
	w.until("what runs for the admission that was ended is cut", func() error {
		select {
		case <-ends["laptop"]:
			return nil
		default:
			return errors.New("it runs")
		}
	})
	w.setPolicy("root", func(s *policy.Source) { s.Grants = []policy.Grant{} })
	grant()
	w.until("bob is given it anew", func() error { return w.enforced("office", 4) })
	if s, err := laptop.dial(t.Context(), office); err == nil {
		s.Close()
		t.Error("the older admission still counts")
	}
	if status, _ := open(t, phone.session(t, office), script); status != http.StatusOK {
		t.Errorf("the newer admission does not count: status %d", status)
	}
}
