package file

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

var update = flag.Bool("update", false, "write what the policy of the next release comes to")

// targets are what is asked for of the policies of releases: each thing that an app is asked for.
var targets = []string{"tunnel/tcp/ssh", "tunnel/tcp/db", "tunnel/udp/dns", "tunnel/forward/10.1.2.3:22", "tunnel/forward/10.1.2.3:23", "tunnel", "file/read", "file/write", "file/inbox",
	"proxy/www.demo:443", "proxy/demo:443", "proxy/www.demo:80", "terminal/shell", "script/run", "cloud/fetch", "policy/read", "kube"}

// decisions are what a policy gives: a line for each user, target, endpoint, device from which and
// moment at which it is given. The moments are the seconds about each end.
func decisions(t *testing.T, s *policy.Source) []byte {
	t.Helper()
	users, ends := []string{"somebody-else"}, []unixtime.Seconds{now}
	add := func(user string, until unixtime.Seconds) {
		if apps.IsUser(user) {
			users = append(users, user)
		}
		if until != 0 {
			ends = append(ends, until-1, until)
		}
	}
	for name, u := range s.Users {
		add(name, u.Until)
	}
	for _, g := range s.Groups {
		for _, m := range g.Members {
			add(m.User, m.Until)
		}
	}
	for _, g := range s.Grants {
		add("", g.Until)
	}
	slices.Sort(users)
	slices.Sort(ends)
	var out bytes.Buffer
	cuts := s.Cutter()
	for _, ep := range append(names(s.Endpoints), "") {
		r := rightsFor(cuts, s.Endpoints[ep].ID)
		for _, user := range slices.Compact(slices.Clone(users)) {
			for _, to := range targets {
				app, name, _ := strings.Cut(to, "/")
				for _, from := range []string{"desk", ""} {
					for _, at := range slices.Compact(slices.Clone(ends)) {
						if d := r.Decide(apps.Peer{User: user, ID: s.Endpoints[from].ID}, app, name, at); d.Allow {
							fmt.Fprintf(&out, "%s reaches %s at %q from %q at %d: %s until %d\n", user, to, ep, from, at, d.Grant, d.Until)
						}
					}
				}
			}
		}
	}
	return out.Bytes()
}

func TestAPolicyOfAnEarlierReleaseGivesWhatItGave(t *testing.T) {
	dirs, err := filepath.Glob("testdata/releases/*/policy.yaml")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no policies: %v", err)
	}
	for _, path := range dirs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, s := read(t, string(b))
		if wrong := f.Run(s, now); len(wrong) > 0 {
			t.Errorf("%s: its own tests: %q", path, wrong)
		}
		doc, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		inForce := recorded(t, path, "source.json", doc)
		old, err := policy.Parse(inForce)
		if err != nil {
			t.Fatalf("%s: the document in force is not read: %v", path, err)
		}
		if diff := cmp.Diff(old, s); diff != "" {
			t.Errorf("%s: the file and the document that was made of it (-document +file):\n%s", path, diff)
		}
		want := string(recorded(t, path, "decisions.txt", decisions(t, s)))
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(decisions(t, old)), "\n")); diff != "" {
			t.Errorf("%s: what is given (-then +now):\n%s", path, diff)
		}
	}
}

// recorded is what a release has written beside its policy, which for the next one is written when
// that is asked for.
func recorded(t *testing.T, path, name string, now []byte) []byte {
	t.Helper()
	file := filepath.Join(filepath.Dir(path), name)
	if *update && strings.HasSuffix(filepath.Dir(path), "unreleased") {
		if err := os.WriteFile(file, now, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
