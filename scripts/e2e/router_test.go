//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// cutWithin is how soon what the policy gives no longer has ended.
const cutWithin = 5 * time.Second

// TestRouterObeysThePolicy: an exit that was built for a router takes its slice of a policy that is made elsewhere, decides
// by it, ends what it gives no longer, says who can reach what, and says that it changes no policy.
func TestRouterObeysThePolicy(t *testing.T) {
	t.Parallel()
	build, err := small()
	if err != nil {
		t.Fatal(err)
	}
	m := newMesh(t, options{})
	m.builds = map[string]string{"ep-router": build}
	router, desk, bob := m.addAgent("ep-router", "alice"), m.addAgent("ep-desk", "alice"), m.addAgent("ep-bob", "bob")
	if out := router.ztm("version"); strings.Contains(out, "policies") || strings.Contains(out, "yaml") {
		t.Fatalf("it has what a router leaves out:\n%s", out)
	}
	m.builds["ep-spare"] = build
	spare := m.newAgent("ep-spare", "root") // of root, with the CA key
	spare.joinBy(m.path("root.json"))
	address := bob.tunnel("echo", router, echoes(t).address())
	await(t, "bob reaches it by the owner's rule", func() bool { return echo(address) == nil })

	m.enforces(router, 1, "")
	if err := echo(address); err == nil {
		t.Error("without a grant bob reaches it")
	}
	if out := router.ztm("who-can", "reach", ".", "tcp/echo"); allows(out, "bob") {
		t.Errorf("who can, typed at the router:\n%s", out)
	}
	m.enforces(router, 2, `- {name: work, who: ["group:ops"], to: [tunnel/tcp/echo], at: [ep-router]}`)
	running := dial(t, address)
	echoOn(t, running)
	for who, out := range map[string]string{
		"at the router": router.ztm("who-can", "reach", ".", "tcp/echo"), "at root's": m.root.ztm("who-can", "reach", "ep-router", "tcp/echo"),
	} {
		if !allows(out, "bob") || !strings.Contains(out, "work") {
			t.Errorf("who can, typed %s:\n%s", who, out)
		}
	}
	if out := bob.ztm("can", "--at", "ep-router"); !strings.Contains(out, "tcp/echo") {
		t.Errorf("bob reads that they can\n%s", out)
	}
	for from, args := range map[*agent]string{router: "group add ops carol", desk: "ep ep-router group add ops carol"} {
		r := from.try(strings.Fields(args)...)
		if r.status == 0 || !strings.Contains(r.stderr, "build of ztm") {
			t.Error(r)
		}
	}

	spare.awaitPolicy(2)
	for from, args := range map[*agent]string{spare: "can bob", m.root: "ep ep-spare group add ops carol"} {
		r := from.try(strings.Fields(args)...)
		if r.status == 0 || !strings.Contains(r.stderr, "build of ztm") {
			t.Errorf("one of root: %v", r)
		}
	}

	m.root.ztm("group", "remove", "ops", "bob")
	awaitEnd(t, "membership was taken away", running, cutWithin)
	if out := bob.ztm("can", "--at", "ep-router"); strings.Contains(out, "tcp/echo") {
		t.Errorf("bob reads that they can\n%s", out)
	}
	const lasts = 20 * time.Second
	m.root.ztm("group", "add", "ops", "bob", "--until", lasts.String())
	over := time.Now().Add(lasts)
	await(t, "bob reaches it again", func() bool { return echo(address) == nil })
	running = dial(t, address)
	echoOn(t, running)
	awaitEnd(t, "a membership has ended, and nobody has done anything", running, time.Until(over)+cutWithin)
	if time.Now().Before(over.Add(-2 * time.Second)) {
		t.Error("it was cut before the end")
	}
	if err := echo(address); err == nil {
		t.Error("bob reaches it after the end")
	}
}

// enforces puts a policy with some grants in force, and waits until an agent has that version.
func (m *mesh) enforces(at *agent, version int, grants string) {
	m.t.Helper()
	out := m.root.ztm("get", "ep", at.name, "-o", "json")
	var eps []struct{ ID string }
	if err := json.Unmarshal([]byte(out), &eps); err != nil || len(eps) != 1 {
		m.t.Fatalf("%v: %s", err, out)
	}
	text := fmt.Sprintf("ztm: policy/1\nmode: enforce\nusers: {bob: {}}\ngroups: {ops: {members: [bob]}}\nendpoints: {%s: {id: %s}}\ngrants:\n%s\n", at.name, eps[0].ID, grants)
	if grants == "" {
		text = strings.Replace(text, "grants:\n", "grants: []", 1)
	}
	path := m.path(fmt.Sprint("policy-", version, ".yaml"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if r := m.root.try("policy", "apply", "-f", path); r.status != 0 {
		m.t.Fatal(r)
	}
	at.awaitPolicy(version)
}

// awaitPolicy waits until an agent has a version of the policy in force.
func (a *agent) awaitPolicy(version int) {
	a.t.Helper()
	await(a.t, a.name+" has the policy", func() bool {
		var p struct {
			Version int
			InForce bool
		}
		r := a.try("get", "policy", "-o", "json")
		return r.status == 0 && json.Unmarshal([]byte(r.stdout), &p) == nil && p.Version >= version && p.InForce
	})
}

// allows reports whether a table of who can has a row by which a user can.
func allows(table, user string) bool {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == user && strings.Contains(line, "yes") {
			return true
		}
	}
	return false
}

// echoOn asks an echo service on a connection that stays open.
func echoOn(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(timeout))
	got := make([]byte, 5)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
}

// awaitEnd waits until a connection is cut.
func awaitEnd(t testing.TB, why string, c net.Conn, limit time.Duration) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(limit))
	start := time.Now()
	if _, err := c.Read(make([]byte, 1)); os.IsTimeout(err) {
		t.Errorf("%s, and it runs %v later", why, limit)
	}
	t.Logf("%s: cut after %v", why, time.Since(start).Round(10*time.Millisecond))
}
