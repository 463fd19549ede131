package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/agent/audit"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

func TestTheAuditLogTellsWhatLetSomebodyInAndWhatWasChangedAndWhy(t *testing.T) {
	w := threeUsers(t)
	listen := w.tunnelTo("bob", "office", "web", echoServer(t), "--users", "group:ops")
	w.ztm("root", "group", "add", "ops", "bob", "--reason", "on call")
	act := w.audited("root", "the group", func(l audit.Line) bool { return l.Target == "group ops" })
	if act.User != "root" || !strings.Contains(act.Detail, "add bob") || !strings.Contains(act.Detail, "on call") {
		t.Errorf("the change of the group: %+v", act)
	}
	w.audited("office", "the policy that came", func(l audit.Line) bool { return l.Event == audit.Policy && l.Policy == 1 })
	w.reaches(listen, true)
	if l := w.audited("office", "a flow by the group", func(l audit.Line) bool { return l.Event == audit.Flow && l.In > 0 }); l.Rule != "users group:ops" || l.Policy != 1 {
		t.Errorf("what let bob in: %+v", l)
	}
	w.setPolicy("root", func(s *policy.Source) {
		s.Mode, s.Users["bob"] = policy.Enforce, policy.User{}
		s.Grants = []policy.Grant{{Name: "work", Who: []policy.Who{{Name: "bob", Added: 1}}, To: []string{"tunnel", "terminal"}, At: []string{"*"}, From: []string{"*"}}}
	})
	w.until("the grants are in force", func() error { return w.enforced("office", 2) })
	w.reaches(listen, true)
	w.audited("office", "a flow by a grant", func(l audit.Line) bool {
		return l.Event == audit.Flow && l.Policy == 2 && l.Rule == "grant work; users group:ops"
	})
	w.ztm("root", "evict", "bob", "--reason", "left the company")
	w.audited("root", "the eviction and why", func(l audit.Line) bool {
		return l.Target == "evict bob" && strings.Contains(l.Detail, "left the company")
	})
	w.audited("office", "the trust list that came", func(l audit.Line) bool { return l.Event == audit.Trust && l.Trust > 0 })
}

func TestAChangeIsInTheAuditLogInTheWordsOfItsCommand(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("eve", "eve")
	w.join("eve2", "eve")
	w.join("mallory", "mallory")
	w.write("pass", "secret\n")
	w.write("script.sh", "true\n")
	w.write("x", "of the cloud")
	w.ztm("root", "cloud", "upload", w.path("x"))
	w.try("mallory", "script", w.path("script.sh"), "--ep", "ep-root")
	w.audited("root", "a refusal", func(l audit.Line) bool { return l.User == "mallory" })
	if err := os.WriteFile(w.path("secret"), []byte("hidden, and long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := w.membership("root").Hubs[0]
	w.ztm("root", "invite", "dave", "--permit", w.path("dave.json"))
	w.try("root", "script", w.path("script.sh"), "--ep", "ep-eve") // its name is known from now on
	for _, tt := range []struct{ typed, detail string }{
		{"label --add kind=till", "kind=till"},
		{"tunnel open outbound tcp/db --targets 127.0.0.1:1", "targets: +127.0.0.1:1"},
		{"tunnel set outbound tcp/db --users eve", "users: +eve"},
		{"tunnel close outbound tcp/db", "users: -eve"},
		{"tunnel open inbound tcp/db --listen 127.0.0.1:0", "listens: +127.0.0.1:0"},
		{"tunnel allow --target 127.0.0.1:1 --users eve", "127.0.0.1:1: +eve"},
		{"proxy config --add-target *.example.com", "targets: +*.example.com"},
		{"proxy rules --users eve --targets *.example.com --action deny", "rules: +(action deny"},
		{"proxy rules --index 0 --remove", "rules: -(action deny"},
		{"terminal config --add-user eve", "users: +eve"},
		{"terminal config --idle-timeout 30m", "idleTimeout: none -> 1800000"},
		{"script config --max-sessions 3", "maxSessions: none -> 3"},
		{"file allow " + w.dir + " --users eve", "allow: +(path " + w.dir + ", users eve)"},
		{"file allow " + w.dir + " --remove", "allow: -(path " + w.dir},
		{"file inbox --add-user eve", "inbox users: +eve"},
		{"cloud share /users/root/x --add-user eve", "/users/root/x: +eve"},
		{"config direct off", "auto -> off"},
		{"audit config --own on", "own: none -> true"},
		{"audit config --webhook https://127.0.0.1:1/hidden --secret-file " + w.path("secret"), "webhook: none -> https://127.0.0.1:1"},
		{"audit forget mallory", ""},
		{"notice config --command /bin/true", "command: +/bin/true"},
		{"notice test", ""},
		{"invite carol --valid 8h --permit " + w.path("carol.json"), ""},
		{"group add ops carol --reason holiday", "reason: holiday"},
		{"policy label ep-eve kind=till", "add kind=till"},
		{"policy direct lan", "lan"},
		{"forget ep-eve", ""},
		{"set hubs " + hub, hub},
		{"revoke token " + w.tokens("root")[0].ID, ""},
		{"evict ep ep-eve2 --reason lost", "ep-eve2"},
		{"evict eve", ""},
		{"rotate root --permit " + w.path("new.json"), "grace 720h0m0s"},
	} {
		before := w.audit("root")
		if _, errs, status := w.try("root", strings.Fields(tt.typed)...); (status != 0) != (tt.typed == "audit forget nobody") {
			t.Fatalf("ztm %s: status %d: %s", tt.typed, status, errs)
		}
		made := slices.DeleteFunc(w.audit("root"), func(l audit.Line) bool { return l.Event != audit.Settings || l.Seq <= before[len(before)-1].Seq })
		if len(made) == 0 {
			t.Errorf("ztm %s leaves no line", tt.typed)
			continue
		}
		for _, l := range made {
			for _, word := range strings.Fields(l.App + " " + l.Target) {
				if !slices.Contains(strings.Fields(tt.typed), word) {
					t.Errorf("ztm %s is in the log as %q, %q", tt.typed, l.App, l.Target)
				}
			}
			if l.Target == "" || l == made[0] && !strings.Contains(l.Detail, tt.detail) {
				t.Errorf("ztm %s: %+v", tt.typed, l)
			}
		}
	}
	if out := w.ztm("root", "audit"); strings.Contains(out, "forget mallory") || strings.Contains(out, "hidden") {
		t.Errorf("whose lines were dropped, or what is secret of a webhook, is in the log:\n%s", out)
	}
}

// Nobody is a member, or is one no longer, without a line at the endpoint that has done it: the device
// that joins and leaves, and the endpoint of root that has let it in by a token.
func TestWhoJoinsAndWhoLeavesIsInTheAuditLog(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("bob.json"))
	w.startAgent("bob")
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
	w.connected("bob")
	bob := w.endpointOf("bob")
	in := w.audited("root", "who was let in", func(l audit.Line) bool { return l.Event == audit.Admitted })
	if in.User != "bob" || in.PeerID != bob || in.Target != "ep-bob" || in.Result != audit.OK {
		t.Errorf("who was let in: %+v", in)
	}
	if first := w.audit("bob")[0]; first.Event != audit.Settings || first.Target != "join" || first.User != "bob" {
		t.Errorf("the first line: %+v", first)
	}
	w.ztm("bob", "audit", "config", "--file", "on")
	w.ztm("bob", "leave", "demo")
	b, err := os.ReadFile(filepath.Join(w.path("bob"), "audit", "demo.jsonl"))
	if err != nil || !strings.Contains(string(b), `"event":"settings","result":"ok","user":"bob","target":"leave"`) {
		t.Errorf("the file has nothing of who has left: %v: %s", err, b)
	}
}

func TestWhatAnotherUserAsksOfAnEndpointsSettingsAndItsPolicyIsInTheAuditLog(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	w.join("bob", "bob")
	w.try("bob", "ep", "ep-office", "terminal", "config", "--add-user", "bob")
	no := w.audited("office", "who may not manage it", func(l audit.Line) bool { return l.User == "bob" })
	if no.Event != audit.Refused || no.Result != audit.No || no.Reason != audit.Denied || no.Target != "manage" {
		t.Errorf("who may not manage it: %+v", no)
	}
	ask := func() (status int, errs string) {
		_, errs, status = w.try("root", "who-can", "reach", "ep-office", "terminal")
		return status, errs
	}
	if status, errs := ask(); status != 0 {
		t.Fatalf("root asks who can: %s", errs)
	}
	w.audited("office", "who has asked", func(l audit.Line) bool {
		return l.Event == audit.Flow && l.App == "policy" && l.User == "root" && l.Target == "read terminal"
	})
	w.until("root asks too often", func() error {
		for range 20 {
			if status, errs := ask(); status != 0 && strings.Contains(errs, "too often") {
				return nil
			}
		}
		return errors.New("it is answered each time")
	})
	w.audited("office", "who asks too often", func(l audit.Line) bool {
		return l.Event == audit.Refused && l.Result == audit.No && l.Reason == audit.Limited && l.App == "policy" && l.User == "root" && l.Target == "read" && l.Rule != ""
	})
}

func TestATerminalIsInTheAuditLogWhileItRuns(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "alice")
	w.ztm("office", "terminal", "config", "--add-user", "bob")
	session := w.intruder("bob").session(t, w.endpointOf("office"))
	status, ended := open(t, session, way{path: "terminal/shell", stays: true})
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	l := w.audited("office", "a terminal runs", func(l audit.Line) bool { return l.Event == audit.Opened })
	if l.User != "bob" || l.App != "terminal" || l.Rule != "users bob" {
		t.Errorf("the line: %+v", l)
	}
	select {
	case <-ended:
		t.Error("it has ended by itself")
	default:
	}
}

func TestWhoseAccessHasEndedReadsThatAndNobodyElseDoes(t *testing.T) {
	w := threeUsers(t)
	target := echoServer(t)
	w.ztm("office", "tunnel", "allow", "--target", target, "--users", "bob")
	w.setPolicy("root", func(s *policy.Source) {
		s.Mode, s.Users["bob"], s.Users["carol"] = policy.Enforce, policy.User{}, policy.User{}
		s.Grants = []policy.Grant{{Name: "work", Who: []policy.Who{{Name: "bob", Added: 1}}, To: []string{"tunnel"}, At: []string{"*"}, From: []string{"*"}, Until: unixtime.Of(time.Now().Add(-time.Hour))}}
	})
	w.until("the grants are in force", func() error { return w.enforced("office", 1) })
	refused := func(target string) string {
		_, errs, status := w.try("bob", "nc", "ep-office", target)
		if status == 0 {
			t.Fatalf("bob is let in: %s", errs)
		}
		return errs
	}
	w.until("bob reads that it has ended", func() error {
		if errs := refused(target); !strings.Contains(errs, "ended") || strings.Contains(errs, "work") {
			return fmt.Errorf("%s", errs)
		}
		return nil
	})
	w.setPolicy("root", func(s *policy.Source) { s.Grants[0].Who[0].Name = "carol" })
	w.until("the next is in force", func() error { return w.enforced("office", 2) })
	if errs := refused(target); !strings.Contains(errs, "not allowed (ref") || strings.Contains(errs, "ended") {
		t.Errorf("of what others had: %s", errs)
	}
}

func TestThePageOfThePolicyHasEachFieldOfTheAuditLog(t *testing.T) {
	page, err := os.ReadFile("docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	line := reflect.TypeFor[audit.Line]()
	for i := range line.NumField() {
		name, _, _ := strings.Cut(line.Field(i).Tag.Get("json"), ",")
		if name != "" && !regexp.MustCompile("(?m)^\\| .*`"+name+"`").Match(page) {
			t.Errorf("docs/policy.md has no row of the field %s", name)
		}
	}
	events := []audit.Event{audit.Flow, audit.Opened, audit.Running, audit.Refused, audit.Merged, audit.Settings, audit.Admitted, audit.Policy, audit.Trust, audit.Forgot, audit.Dropped, audit.Alive}
	reasons := []audit.Reason{audit.Denied, audit.NotFound, audit.Limited, audit.Unavailable, audit.BadRequest, audit.Evicted, audit.Gone, audit.Cut, audit.Failed, audit.WouldRefuse}
	for _, e := range events {
		if !strings.Contains(string(page), "`"+string(e)+"`") {
			t.Errorf("docs/policy.md does not name the event %s", e)
		}
	}
	for _, r := range reasons {
		if !strings.Contains(string(page), "`"+string(r)+"`") {
			t.Errorf("docs/policy.md does not name the reason %s", r)
		}
	}
}
