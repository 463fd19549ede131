package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ztm/agent/audit"
)

func TestAPolicyFileIsTestedAndComparedWithoutAnAgent(t *testing.T) {
	const six = "agent/policy/file/testdata/six.yaml"
	b, err := os.ReadFile(six)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("ZTM_DATA", filepath.Join(dir, "none"))
	write := func(name, old, new string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	more, wrong := write("more.yaml", "[alice, bob]", "[alice, bob, eve]"), write("wrong.yaml", "{can: ci, ", "{cannot: ci, ")
	bad, bare := write("bad.yaml", "base: 41", "bass: 41"), filepath.Join(dir, "bare.yaml")
	if err := os.WriteFile(bare, []byte("ztm: policy/1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args, stdin string
		out, errs   []string
		status      int
	}{
		{"-f " + six, "", []string{"12 tests hold", "endpoints: 6, grants: 7"}, nil, 0},
		{"-f -", string(b), []string{"12 tests hold"}, nil, 0},
		{"-f " + more + " --from " + six, "", []string{"+", "eve", "file/read", "router-12", "pizza-read"}, []string{"breakglass is for every endpoint"}, 0},
		{"-o json -f " + six + " --from " + more, "", []string{`"losses"`, `"eve"`}, nil, 0},
		{"-f " + six + " --from " + six, "", []string{"nobody gains or loses anything"}, nil, 0},
		{"-f " + wrong, "", nil, []string{"tests do not hold", "ci can reach kube at cluster-a, by the grant ci-staging"}, 1},
		{"-f " + bad, "", nil, []string{`line 2: the file has no field "bass"`}, 1},
		{"-f " + bare, "", nil, []string{"has no tests"}, 0},
		{"-f " + filepath.Join(dir, "nothing"), "", nil, []string{"nothing"}, 1},
		{"", "", nil, []string{"--file"}, 2},
	} {
		var out, errs bytes.Buffer
		status := run(append([]string{"ztm", "policy", "test"}, strings.Fields(test.args)...), strings.NewReader(test.stdin), &out, &errs)
		if status != test.status {
			t.Errorf("ztm policy test %s: status %d: %s", test.args, status, errs.String())
		}
		for _, want := range test.out {
			if !strings.Contains(out.String(), want) {
				t.Errorf("ztm policy test %s prints no %q:\n%s", test.args, want, out.String())
			}
		}
		for _, want := range test.errs {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("ztm policy test %s says no %q:\n%s", test.args, want, errs.String())
			}
		}
	}
}

// TestAPolicyThatIsAppliedIsEnforced is the way of one: the file is written by hand, refused, applied,
// exported, and applied again with less.
func TestAPolicyThatIsAppliedIsEnforced(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	stop := w.join("bob", "bob")
	w.join("srv", "alice")
	listen := w.tunnelTo("bob", "srv", "ssh", echoServer(t), "--users", "bob")
	w.reaches(listen, true)
	file := w.path("policy.yaml")
	grant := func(user, more string) {
		w.write("policy.yaml", "ztm: policy/1\n"+more+"users: {bob: {}, carol: {}}\nendpoints: {ep-srv: {id: "+string(w.endpoint("ep-srv").ID)+"}}\n"+
			"grants:\n- {name: work, who: ["+user+"], to: [tunnel/tcp/ssh], at: [ep-srv]}\n"+
			"tests:\n- {can: "+user+", to: tunnel/tcp/ssh, at: ep-srv}\n- {cannot: "+user+", to: terminal, at: '*'}\n")
	}

	grant("carol", "")
	if out, errs, _ := w.try("root", "policy", "diff", "-f", file); !strings.Contains(out, "carol") || !strings.Contains(out, "+") || !strings.Contains(errs, ": carol\n") {
		t.Errorf("the difference, and that nobody is carol:\n%s%s", out, errs)
	}
	w.ztm("root", "invite", "carol", "--permit", w.path("carol.json"))
	if _, errs, _ := w.try("root", "policy", "diff", "-f", file); strings.Contains(errs, "carol") {
		t.Errorf("carol is invited, and nobody by this:\n%s", errs)
	}
	w.ztm("root", "policy", "apply", "-f", file, "--dry-run")
	if p := w.policyOf("root"); p.Version != 0 {
		t.Fatalf("a dry run has made %+v", p)
	}
	say := w.liveFlow(listen)
	if _, errs, status := w.try("root", "policy", "apply", "-f", file); status != 0 || strings.Contains(errs, "confirmed") || strings.Contains(errs, "offline") {
		t.Errorf("the first: status %d, %s", status, errs)
	}
	w.ends(say) // the owner's rule names bob, and no grant does
	w.reaches(listen, false)
	if l := w.audited("srv", "the refusal", func(l audit.Line) bool { return l.Event == audit.Refused }); l.User != "bob" || !strings.Contains(l.Rule, "no grant") {
		t.Errorf("the audit log: %+v", l)
	}

	grant("bob", "base: 17\n")
	if out, errs, status := w.try("root", "policy", "apply", "-f", file); status == 0 || !strings.Contains(errs, "base") || !strings.Contains(out, "bob") {
		t.Errorf("another base: status %d, %s%s", status, out, errs)
	}
	grant("bob", "base: 1\n")
	w.ztm("root", "policy", "apply", "-f", file)
	w.reaches(listen, true)
	w.write("exported.yaml", w.ztm("root", "policy", "export"))
	if out := w.ztm("root", "policy", "diff", "-f", w.path("exported.yaml")); !strings.Contains(out, "nobody gains or loses anything") {
		t.Errorf("what was exported is another policy:\n%s", out)
	}

	w.write("wrong.yaml", strings.Replace(w.ztm("root", "policy", "export"), string(w.endpoint("ep-srv").ID), string(w.endpoint("ep-bob").ID), 1))
	if _, errs, status := w.try("root", "policy", "apply", "-f", w.path("wrong.yaml")); status == 0 || !strings.Contains(errs, "ep-srv") {
		t.Errorf("a name with the ID of another device: status %d, %s", status, errs)
	}
	if _, errs, status := w.try("bob", "policy", "apply", "-f", file); status == 0 {
		t.Errorf("who has no key has applied it: %s", errs)
	}
	stop()
	w.until("bob is offline", func() error {
		if w.endpoint("ep-bob").Online {
			return errors.New("online")
		}
		return nil
	})
	grant("bob", "base: 2\n")
	if _, errs, status := w.try("root", "policy", "apply", "-f", file); status != 0 || !strings.Contains(errs, "offline, they ask for it when they are back: ep-bob\n") {
		t.Errorf("with bob offline: status %d, %s", status, errs)
	}
}

// TestAPolicyIsObservedBeforeItIsEnforcedAndTakenAwayAgain is the way from lists of users to grants.
func TestAPolicyIsObservedBeforeItIsEnforcedAndTakenAwayAgain(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("srv", "alice")
	listen := w.tunnelTo("bob", "srv", "ssh", echoServer(t), "--users", "bob")
	w.reaches(listen, true)
	w.write("policy.yaml", "ztm: policy/1\nusers: {carol: {}}\ngrants:\n- {name: work, who: [carol], to: [tunnel], at: ['*']}\n")
	file := w.path("policy.yaml")
	w.ztm("root", "policy", "apply", "-f", file, "--observe")
	w.until("it is observed", func() error { return w.enforced("srv", 1) })
	say := w.liveFlow(listen)
	w.until("the flow is in the report", func() error {
		if _, err := echo(listen, "hello"); err != nil {
			t.Fatal(err)
		}
		if out := w.ztm("srv", "policy", "report"); !strings.Contains(out, "bob") || !strings.Contains(out, "tcp/ssh") {
			return errors.New(out)
		}
		return nil
	})
	if err := say(); err != nil {
		t.Errorf("a policy that is observed cuts: %v", err)
	}
	w.ztm("root", "policy", "apply", "-f", file)
	w.ends(say)
	w.reaches(listen, false)
	w.ztm("root", "policy", "remove")
	w.reaches(listen, true)
	if _, _, status := w.try("root", "policy", "remove"); status == 0 {
		t.Error("what is not there is taken away")
	}
}
