package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"ztm/tunnel/seal"
)

// TestTheSixCasesAreAppliedAndEnforced applies the example of a policy to a mesh, once for each of its
// endpoints, and tries what it gives and what it does not. Each rule of the owner leaves it to the
// policy.
func TestTheSixCasesAreAppliedAndEnforced(t *testing.T) {
	b, err := os.ReadFile("agent/policy/file/testdata/six.yaml")
	if err != nil {
		t.Fatal(err)
	}
	six := strings.NewReplacer("2026-", "2099-", "base: 41\n", "").Replace(string(b))
	w := newWorld(t)
	w.join("root", "root")
	w.join("exit", "owner")
	target, dir := echoServer(t), t.TempDir()
	for _, rule := range []string{
		"tunnel open outbound tcp/ssh --targets " + target, "tunnel open outbound tcp/status --targets " + target, "tunnel open outbound tcp/db --targets " + target,
		"terminal config --add-user @policy", "file allow " + dir, "proxy config --add-target *.demo", "proxy rules --targets * --action allow",
	} {
		if strings.Contains(rule, "config") {
			w.ztm("exit", strings.Fields(rule)...)
		} else {
			w.ztm("exit", append(strings.Fields(rule), "--users", "@policy")...)
		}
	}
	ssh, status, db := way{path: "tunnel/tcp/ssh"}, way{path: "tunnel/tcp/status"}, way{path: "tunnel/tcp/db"}
	list, shell := way{path: "file/list", query: url.Values{"path": {dir}}}, way{path: "terminal/shell"}
	demo := way{path: "proxy/tcp", query: url.Values{"target": {"shop.demo:443"}}}
	dora := w.intruder("dora")
	users := map[string]*intruder{"dora": dora, "dora from elsewhere": w.intruder("dora")}
	for _, user := range []string{"carol", "bob", "pia", "ci", "gil"} {
		users[user] = w.intruder(user)
	}
	six = strings.Replace(six, "c5w2yq7n4hq3r6ab5c2d7e4f3g6hxyze", string(dora.id), 1)
	sessions := map[string]*seal.Session{}
	for name, i := range users {
		sessions[name] = i.session(t, w.endpointOf("exit"))
	}
	version := uint64(0)
	for _, c := range []struct {
		id    string         // in the file, of the endpoint that ours is now
		gives map[string]way // by user
	}{
		{"k5w2yq7n4hq3r6ab5c2d7e4f3g6hxyza", map[string]way{"carol": ssh}},
		{"q5w2yq7n4hq3r6ab5c2d7e4f3g6hxyzb", map[string]way{"bob": status, "pia": list}},
		{"b5w2yq7n4hq3r6ab5c2d7e4f3g6hxyzd", map[string]way{"gil": demo}},
		{"z5w2yq7n4hq3r6ab5c2d7e4f3g6hxyzc", map[string]way{"dora": db}},
		{"abcdefghijklmnopqrstuvwxyz234567", nil}, // a cluster, which is no app
	} {
		w.write("six.yaml", strings.Replace(six, c.id, string(w.endpointOf("exit")), 1))
		w.ztm("root", "policy", "apply", "-f", w.path("six.yaml"))
		version++
		w.until("it is in force", func() error { return w.enforced("exit", version) })
		for name, s := range sessions {
			for _, way := range []way{ssh, status, db, list, shell, demo} {
				given, any := c.gives[name]
				want := any && given.path == way.path || name == "bob" && any && way.path == list.path || name == "pia" && any && way.path == status.path
				got, _ := open(t, s, way)
				if (got != http.StatusForbidden) != want {
					t.Errorf("the endpoint %s: %s at %s: status %d", c.id, name, way.path, got)
				}
			}
		}
	}
	w.ztm("root", "group", "add", "breakglass", "ci", "--until", "30m", "--reason", "disk full")
	w.until("who breaks the glass has a terminal", func() error {
		if got, _ := open(t, sessions["ci"], shell); got != http.StatusOK {
			return fmt.Errorf("status %d", got)
		}
		return nil
	})
	if _, errs, status := w.try("root", "group", "add", "breakglass", "bob", "--until", "3h"); status == 0 {
		t.Errorf("a membership lasts longer than its group lets one: %s", errs)
	}
}
