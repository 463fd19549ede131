package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ztm/agent/audit"
	"ztm/agent/console"
	"ztm/apps/appstest"
)

// audit returns the lines of the audit log of an agent.
func (w *world) audit(agent string, args ...string) (lines []audit.Line) {
	w.t.Helper()
	out := w.ztm(agent, append([]string{"audit", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &lines); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return lines
}

// audited waits for a line.
func (w *world) audited(agent, what string, is func(audit.Line) bool) (found audit.Line) {
	w.t.Helper()
	w.until("there is a line: "+what, func() error {
		lines := w.audit(agent)
		i := slices.IndexFunc(lines, is)
		if i < 0 {
			return fmt.Errorf("%+v", lines)
		}
		found = lines[i]
		return nil
	})
	return found
}

func TestTheAuditLogHasTheFlowsOfEveryApp(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	bob := w.endpoint("ep-bob")
	eve := w.intruder("eve")
	s := eve.session(t, bob.ID)
	names := []string{"nothing"}
	for _, k := range kinds() {
		names = append(names, k.Name)
	}
	for _, app := range names {
		if _, status := eve.flow(t, s, app+"/x?user=bob&target=\x1b[2J%0d%0a", app); status == 200 {
			t.Fatalf("app %s accepted", app)
		}
		l := w.audited("bob", app, func(l audit.Line) bool { return l.App == app })
		if l.Event != audit.Refused || l.Result != audit.No || l.Reason == "" || l.User != "eve" || l.PeerID != eve.id || l.Flow != app || l.EndpointID != bob.ID {
			t.Errorf("app %s: %+v", app, l)
		}
	}
	if out := w.ztm("bob", "audit"); strings.ContainsAny(out, "\x1b\r") {
		t.Errorf("a peer's words reach the terminal: %q", out)
	}
}

func TestTheAuditLogTellsWhoReachedWhatAndWhoWasRefused(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("eve", "eve")
	listen := w.tunnelTo("root", "bob", "db", echoServer(t), "--users", "root", "eve")
	wantEcho(t, listen)
	done := w.audited("bob", "a flow of root", func(l audit.Line) bool { return l.Event == audit.Flow && l.Out > 0 })
	if done.User != "root" || done.Peer != "ep-root" || done.App != "tunnel" || done.Target != "tcp/db" || done.Result != audit.OK || done.Out != done.In || done.Flow == "" {
		t.Errorf("the flow: %+v", done)
	}

	_, errs, _ := w.try("root", "nc", "ep-bob", "127.0.0.1:1")
	no := w.audited("bob", "a refusal", func(l audit.Line) bool { return l.Event == audit.Refused })
	if no.User != "root" || no.Reason != audit.Denied || no.Rule == "" || no.Ref == "" || !strings.Contains(errs, no.Ref) {
		t.Errorf("the refusal: %+v; root was told %q", no, errs)
	}
	if out := w.ztm("bob", "audit", "--refused", "--user", "root", "--ep", "ep-root", "--app", "tunnel", "--since", "1h"); !strings.Contains(out, no.Rule) || strings.Contains(out, "tcp/db") {
		t.Errorf("ztm audit --refused prints:\n%s", out)
	}

	entrance := "127.0.0.1:0"
	w.ztm("eve", "tunnel", "open", "inbound", "tcp/db", "--listen", entrance, "--exits-of", "bob")
	bob := w.endpoint("ep-bob")
	eve := w.intruder("eve")
	if _, status := eve.flow(t, eve.session(t, bob.ID), "tunnel/tcp/db", "long"); status != 200 {
		t.Fatalf("status %d", status)
	}
	w.ztm("bob", "tunnel", "set", "outbound", "tcp/db", "--users", "root")
	cut := w.audited("bob", "a flow that was cut", func(l audit.Line) bool { return l.Result == audit.End })
	if cut.User != "eve" || cut.Reason != audit.Cut || cut.Flow != "long" {
		t.Errorf("the cut: %+v", cut)
	}
	if act := w.audited("bob", "the change of the tunnel", func(l audit.Line) bool {
		return l.Event == audit.Settings && strings.Contains(l.Target, "outbound")
	}); act.User != "bob" || act.App != "tunnel" || act.Result != audit.OK {
		t.Errorf("the change: %+v", act)
	}
	w.ztm("root", "evict", "eve")
	w.audited("root", "the eviction", func(l audit.Line) bool { return l.Event == audit.Settings && l.Target == "evict eve" })

	// What endpoints of one user do with each other is no news.
	w.join("bob2", "bob")
	w.ztm("bob2", "ep", "ep-bob", "tunnel", "set", "outbound", "tcp/db", "--users", "eve")
	if act := w.audited("bob", "a change from another endpoint", func(l audit.Line) bool { return l.PeerID == w.endpoint("ep-bob2").ID }); act.Event != audit.Settings || act.User != "bob" {
		t.Errorf("the change: %+v", act)
	}
	for _, l := range w.audit("bob") {
		if l.User == "bob" && l.Event != audit.Settings {
			t.Errorf("a flow of its own user: %+v", l)
		}
	}

	w.ztm("bob", "audit", "forget", "root")
	for _, l := range w.audit("bob") {
		if l.User == "root" {
			t.Errorf("it was not forgotten: %+v", l)
		}
	}
	if _, _, status := w.try("eve", "ep", "ep-bob", "audit"); status == 0 {
		t.Error("another user reads the audit log")
	}
	if out := w.ztm("bob2", "ep", "ep-bob", "audit"); !strings.Contains(out, "settings bob (ep-bob2) tunnel outbound tcp/db") {
		t.Errorf("its own user does not read it from elsewhere:\n%s", out)
	}
}

func TestTheAuditLogIsFollowed(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	var out appstest.Buffer
	env := func(name string) string { return map[string]string{"HOME": w.dir, "ZTM_DATA": w.path("bob")}[name] }
	c := console.New(console.Config{Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard, Getenv: env})
	status := -1
	stop, ended := w.background("ztm audit -f", func(ctx context.Context) error {
		status = c.Run(ctx, []string{"audit", "-f", "-o", "json"}, commands(c))
		return nil
	})
	for _, target := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		w.try("root", "nc", "ep-bob", target)
		w.until("the line comes", func() error {
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			var l audit.Line
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &l); err != nil || !strings.Contains(l.Target, target) {
				return errors.New(out.String())
			}
			return nil
		})
	}
	stop()
	if <-ended; status != 0 {
		t.Errorf("status %d after an interrupt, by which following ends", status)
	}
}

func TestAnAuditLogInAFileOutlivesTheAgentAndIsVerified(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	stop := w.join("bob", "bob")
	w.ztm("bob", "audit", "config", "--file", "on", "--own", "on")
	w.try("root", "nc", "ep-bob", "127.0.0.1:1")
	w.audited("bob", "the refusal", func(l audit.Line) bool { return l.Event == audit.Refused })
	stop()
	stop = w.startAgent("bob")
	w.connected("bob")
	if out := w.ztm("bob", "audit", "config"); !strings.Contains(out, "on, 5 of 10 MB") {
		t.Errorf("after a restart:\n%s", out)
	}
	w.ztm("bob", "audit", "config", "--own", "off")
	stop()
	path := filepath.Join(w.path("bob"), "audit", "demo.jsonl")
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, []byte(`"event":"refused"`)) {
		t.Fatalf("%v: %s", err, b)
	}
	if out := w.ztm("bob", "audit", "verify", path); strings.Contains(out, "Problem") {
		t.Error(out)
	}
	w.write("changed.jsonl", strings.Replace(string(b), `"user":"root"`, `"user":"eve"`, 1))
	if out, errs, status := w.try("bob", "audit", "verify", w.path("changed.jsonl")); status == 0 || !strings.Contains(out, "Problem") || !strings.Contains(errs, "not what the endpoint has written") {
		t.Errorf("a changed file: status %d, %s%s", status, out, errs)
	}
}

func TestANoticeIsToldToACommandThatIsSetHere(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("needs /bin/sh")
	}
	w := newWorld(t)
	w.join("root", "root")
	w.join("eve", "eve")
	out := w.path("told")
	w.write("tell.sh", "#!/bin/sh\necho \"$ZTM_NOTICE\" >> "+out+"\n")
	if err := os.Chmod(w.path("tell.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := w.try("root", "notice", "test"); status == 0 || !strings.Contains(errs, "notice config") {
		t.Errorf("a test of nothing: status %d, %q", status, errs)
	}
	w.ztm("root", "notice", "config", "--command", w.path("tell.sh"))
	w.ztm("root", "notice", "test")
	w.until("the test is told", func() error {
		b, err := os.ReadFile(out)
		if err != nil || string(b) != "test\n" {
			return fmt.Errorf("%q, %v", b, err)
		}
		return nil
	})
	w.join("root2", "root")
	if _, errs, status := w.try("root2", "ep", "ep-root", "notice", "config", "--command", "/bin/true"); status == 0 || !strings.Contains(errs, "set at that endpoint") {
		t.Errorf("a command is set from elsewhere: status %d, %s", status, errs)
	}
	if out := w.ztm("root", "notice", "config"); !strings.Contains(out, "tell.sh") {
		t.Error(out)
	}
}

func TestALineHasTheNameOfAPeerThatNobodyHereAskedFor(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("eve", "eve")
	w.join("bob", "bob")()
	w.startAgent("bob") // what it knew of others is gone
	w.connected("bob")
	w.until("a refusal has the name", func() error {
		w.try("eve", "nc", "ep-bob", "127.0.0.1:1")
		lines := w.audit("bob", "--refused", "--user", "eve")
		if !slices.ContainsFunc(lines, func(l audit.Line) bool { return l.Peer == "ep-eve" }) {
			return fmt.Errorf("%+v", lines)
		}
		return nil
	})
}
