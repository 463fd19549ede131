package main

import (
	"errors"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel/identity/policy"
)

// reachesBy lists who can reach each target at an endpoint.
func (w *world) reachesBy(ep string, targets []string) string {
	var out []string
	for _, target := range targets {
		out = append(out, target+": "+allowed(w.whoCan("root", ep, target).Rows))
	}
	return strings.Join(out, "\n")
}

func TestAPolicyThatIsAdoptedFromTheRulesOfEndpointsChangesNothing(t *testing.T) {
	w := threeUsers(t)
	stop := w.join("away", "alice")
	w.ztm("root", "group", "add", "ops", "carol")
	target, dir := echoServer(t), t.TempDir()
	for _, rule := range []string{
		"tunnel open outbound tcp/echo --targets " + target + " --users bob --users group:ops", "tunnel open outbound tcp/mine --targets " + target,
		"tunnel allow --target 127.0.0.0/8 --users bob", "terminal config --add-user dora", "file allow " + dir + " --users group:ops --write",
		"proxy config --add-target 127.0.0.0/8", "proxy rules --users eve --targets 127.0.0.1 --action deny", "proxy rules --users eve --users carol --targets * --action allow",
	} {
		w.ztm("office", strings.Fields(rule)...)
	}
	w.ztm("away", "terminal", "config", "--add-user", "bob")
	listen := appstest.FreeAddress(t)
	w.ztm("bob", "tunnel", "open", "inbound", "tcp/echo", "--listen", listen)
	stop()
	targets := []string{"tcp/echo", "tcp/mine", "tunnel/forward/127.0.0.1:9", "terminal", "file/read", "file/write", "proxy/127.0.0.1:80", "proxy/127.0.0.2:80", "script"}
	before := w.reachesBy("ep-office", targets)
	w.until("who is away is offline", func() error {
		if out := w.ztm("root", "get", "ep", "ep-away"); !strings.Contains(out, "offline") && !strings.Contains(out, "Offline") {
			return errors.New(out)
		}
		return nil
	})
	file, errs, status := w.try("root", "policy", "adopt")
	if status != 0 || !strings.Contains(errs, "ep-away") {
		t.Fatalf("status %d: %s", status, errs)
	}
	if strings.Contains(file, "kube") {
		t.Errorf("a grant is for a cluster, and no endpoint leads to one:\n%s", file)
	}
	w.write("policy.yaml", file)
	say := w.liveFlow(listen)
	w.ztm("root", "policy", "apply", "-f", w.path("policy.yaml"))
	w.until("it is enforced", func() error { return w.enforced("office", w.policyOf("root").Version) })
	if after := w.reachesBy("ep-office", targets); after != before || !strings.Contains(before, "tcp/echo: alice bob carol") {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
	if err := say(); err != nil {
		t.Errorf("what ran is cut: %v", err)
	}
	w.ztm("office", "tunnel", "set", "outbound", "tcp/echo", "--users", "@policy")
	w.ztm("office", "terminal", "config", "--remove-user", "dora", "--add-user", "@policy")
	if after := w.reachesBy("ep-office", targets); after != before {
		t.Errorf("with rules that leave it to the policy:\n%s\nbefore:\n%s", after, before)
	}
	if _, errs, status := w.try("root", "policy", "adopt"); status == 0 || !strings.Contains(errs, "EP") {
		t.Errorf("where grants are enforced no endpoint needs to be named: %s", errs)
	}
	w.startAgent("away")
	w.until("it has the policy", func() error { return w.enforced("away", w.policyOf("root").Version) })
	if got := w.reachesBy("ep-away", []string{"terminal"}); got != "terminal: alice" {
		t.Errorf("at who was away: %s", got)
	}
	w.write("policy.yaml", w.ztm("root", "policy", "adopt", "ep-away"))
	w.ztm("root", "policy", "apply", "-f", w.path("policy.yaml"))
	w.until("its rules count", func() error {
		if got := w.reachesBy("ep-away", []string{"terminal"}); got != "terminal: alice bob" {
			return errors.New(got)
		}
		return nil
	})
	if after := w.reachesBy("ep-office", targets); after != before {
		t.Errorf("with one endpoint more:\n%s\nbefore:\n%s", after, before)
	}
}

func TestEverybodyLearnsWhatTheyMayReachAtAnEndpointAndNothingOfOthers(t *testing.T) {
	w := threeUsers(t)
	target := echoServer(t)
	for _, rule := range []string{"tunnel open outbound tcp/echo --targets " + target + " --users bob", "tunnel open outbound tcp/other --targets " + target + " --users carol",
		"tunnel allow --target 127.0.0.0/8 --users bob"} {
		w.ztm("office", strings.Fields(rule)...)
	}
	out := w.ztm("bob", "can", "--at", "ep-office")
	for what, want := range map[string]bool{"tunnel/tcp/echo": true, "tunnel/forward/*": true, "other": false, "carol": false, "terminal": false, "kube": false} {
		if strings.Contains(out, what) != want {
			t.Errorf("%s is in it: %v\n%s", what, !want, out)
		}
	}
	if also := allowed(w.whoCan("root", "ep-office", "tcp/other").Also); also != "bob" {
		t.Errorf("who may reach any address there has another way to a tunnel's target: %s", also)
	}
	w.setPolicy("root", func(s *policy.Source) {
		s.Mode, s.Users["bob"] = policy.Enforce, policy.User{}
		s.Grants = []policy.Grant{{Name: "g", Who: []policy.Who{{Name: "bob", Added: 1}}, To: []string{"tunnel/tcp/*", "terminal"}, At: []string{"*"}, From: []string{"*"}}}
	})
	w.until("it is enforced", func() error { return w.enforced("office", 1) })
	if out := w.ztm("bob", "can", "--at", "ep-office"); !strings.Contains(out, "tcp/echo") || strings.Contains(out, "forward") || strings.Contains(out, "terminal") {
		t.Errorf("with a policy that gives less:\n%s", out)
	}
	if out := w.ztm("office", "can", "--at", "ep-office"); !strings.Contains(out, "own user") {
		t.Errorf("the owner reads\n%s", out)
	}
	if _, errs, status := w.try("bob", "can", "carol", "--at", "ep-office"); status != 2 {
		t.Errorf("of others: status %d, %s", status, errs)
	}
	if _, errs, status := w.try("bob", "can"); status != 2 {
		t.Errorf("of nobody: status %d, %s", status, errs)
	}
}
