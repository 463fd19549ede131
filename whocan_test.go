package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/audit"
	"ztm/tunnel/identity/policy"
)

// whoCan asks an agent who can reach a target at an endpoint.
func (w *world) whoCan(agent, ep, target string) (out api.WhoCan) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.ztm(agent, "who-can", "reach", ep, target, "-o", "json")), &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// allowed lists the users of some rows who can.
func allowed(rows []api.Access) string {
	var who []string
	for _, r := range rows {
		if r.Allow {
			who = append(who, r.User)
		}
	}
	return strings.Join(who, " ")
}

func TestWhoCanReachAProxysTargetIsWhatItsRulesDecide(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	for _, args := range []string{
		"proxy config --add-target 10.0.0.0/8 --add-target *.lan", "proxy rules --users bob --targets 10.0.0.5 --action deny", "proxy rules --users bob --users carol --targets 10.0.0.0/8 --action allow",
		"terminal config --add-user dora",
	} {
		w.ztm("root", strings.Fields(args)...)
	}
	for target, want := range map[string]string{"proxy/10.0.0.5:80": "root carol", "proxy/10.0.0.6:80": "root bob carol", "proxy/11.0.0.1:80": "root"} {
		if out := w.whoCan("root", ".", target); allowed(out.Rows) != want || allowed(out.Also) != "dora" {
			t.Errorf("%s: %s, and also %s; want %s, and dora", target, allowed(out.Rows), allowed(out.Also), want)
		}
	}
	if _, _, status := w.try("root", "who-can", "reach", ".", "proxy/nothing"); status == 0 {
		t.Error("what is no destination is answered")
	}
}

func TestRootAndWhomAGrantLetsAskWhoCanReachWhatAtAnEndpointOfOthers(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	stop := w.join("office", "alice")
	w.join("bob", "bob")
	w.tunnelTo("bob", "office", "web", echoServer(t), "--users", "bob")
	if got := allowed(w.whoCan("root", "ep-office", "tcp/web").Rows); got != "alice bob" {
		t.Errorf("root reads %s", got)
	}
	w.audited("office", "that root has asked", func(l audit.Line) bool { return l.App == "policy" && l.User == "root" })
	if _, errs, status := w.try("bob", "who-can", "reach", "ep-office", "tcp/web"); status == 0 {
		t.Errorf("who has no right to it asks: %s", errs)
	}
	w.setPolicy("root", func(s *policy.Source) {
		s.Mode, s.Users["bob"] = policy.Enforce, policy.User{}
		s.Grants = []policy.Grant{{Name: "read", Who: []policy.Who{{Name: "bob", Added: 1}}, To: []string{"policy/read", "tunnel"}, At: []string{"*"}, From: []string{"*"}}}
	})
	w.until("the grant is in force", func() error { return w.enforced("office", 1) })
	if got := allowed(w.whoCan("bob", "ep-office", "tcp/web").Rows); got != "alice bob" {
		t.Errorf("bob reads %s", got)
	}
	for _, args := range []string{"ep ep-office group get", "ep ep-office describe policy", "ep ep-office audit"} {
		if _, errs, status := w.try("bob", strings.Fields(args)...); status == 0 {
			t.Errorf("bob reads more than that: ztm %s: %s", args, errs)
		}
	}
	if out := w.ztm("office", "describe", "policy"); !strings.Contains(out, "policy/read") || !strings.Contains(w.ztm("office", "get", "policy"), "enforce") {
		t.Errorf("the owner reads %s", out)
	}
	stop()
	w.until("root reads whom the policy lets", func() error {
		out, errs, status := w.try("root", "who-can", "reach", "ep-office", "tcp/web")
		if status != 0 || !strings.Contains(out, "bob") || !strings.Contains(out, "perhaps") || strings.Contains(out, "yes") {
			return fmt.Errorf("status %d: %s%s", status, out, errs)
		}
		return nil
	})
}
