package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/tunneltest"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tunnels.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// actions runs apply and returns what it says it did, one line for each change.
func (c *console) actions(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c.last = nil
	err := c.start(t, append([]string{"apply"}, args...)...).wait()
	var lines []string
	if plan, ok := c.last.([]Change); ok {
		for _, ch := range plan {
			lines = append(lines, fmt.Sprintf("%s %s %s at %s", ch.Action, ch.Kind, ch.Name, ch.Endpoint))
		}
	}
	return strings.Join(lines, "\n"), err
}

func configOf(t *testing.T, e *tunneltest.Endpoint) string {
	t.Helper()
	s := e.App.Status()
	var all []any
	for _, in := range s.Inbound {
		all = append(all, in.Inbound)
	}
	for _, o := range s.Outbound {
		all = append(all, o.Outbound)
	}
	all = append(all, s.Allow)
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatIsListedCanBeApplied(t *testing.T) {
	var n appstest.Net
	a, b, other := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice"), tunneltest.Join(t, &n, "shop", "bob")
	other.Offer(t, "tcp/web", "127.0.0.1:80")
	c := consoleAt(a)
	home := consoleAt(b)
	listen := appstest.FreeAddress(t)
	home.mustRun(t, "tunnel", "open", "outbound", "--targets", "127.0.0.1:80", "--targets", "unix:/run/x", "--entrances", "laptop", "--users", "bob",
		"--balance", "source", "--check", "http:/", "--proxy-protocol", "v2", "--rate", "10MB/s", "--rate-down", "1.5MB/s", "--max-conns", "9", "tcp/web")
	home.mustRun(t, "tunnel", "allow", "--target", "10.0.0.0/8:22,80-90", "--users", "bob")
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", listen, "--exits", "home", "--accept-proxy-protocol", "tcp/web")
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", listen, "--idle-timeout", "90s", "udp/dns")

	c.mustRun(t, "tunnel", "export")
	text, err := json.Marshal(c.last)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	listed, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, string(listed))
	before := configOf(t, a) + configOf(t, b)

	got, err := c.actions(t, "-f", file, "--prune")
	keep := "keep outbound tcp/web at home\nkeep allow 10.0.0.0/8:22,80-90 at home\n" +
		"keep inbound tcp/web at laptop\nkeep inbound udp/dns at laptop"
	if diff := cmp.Diff(keep, got); diff != "" || err != nil {
		t.Errorf("applied to itself: %v (-want +got):\n%s\n%s", err, diff, listed)
	}
	for _, path := range []string{"/inbound/tcp/web", "/inbound/udp/dns"} {
		a.MustCall(t, "DELETE", path, nil, nil)
	}
	b.MustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
	b.MustCall(t, "POST", "/allow", `{"target":"10.0.0.0/8:22,80-90"}`, nil)
	create := strings.ReplaceAll(keep, "keep", "create")
	for _, args := range [][]string{{"-f", file, "--dry-run"}, {"-f", file}} {
		if got, err := c.actions(t, args...); got != create || err != nil {
			t.Errorf("apply %v did, with %v:\n%s", args, err, got)
		}
	}
	if diff := cmp.Diff(before, configOf(t, a)+configOf(t, b)); diff != "" {
		t.Errorf("what came back is not what was listed (-want +got):\n%s", diff)
	}
}

func TestApplyChangesWhatDiffersAndPrunesOnRequest(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice")
	c := consoleAt(a)
	b.Offer(t, "tcp/old", "127.0.0.1:1")
	b.Offer(t, "tcp/web", "127.0.0.1:80", `"users":["bob"]`)
	a.Listen(t, "tcp/kept") // at an endpoint that the file does not name
	file := writeFile(t, `
# by hand
tunnels:
- name: tcp/web
  outbound:
  - endpoint: home
    targets: [80, "db.local:5432"]
    users: [bob, carol]
    rateUp: 2000000
---
tunnels:
- name: udp/dns
  outbound:
  - {endpoint: home, targets: ["192.0.2.1:53"], idleTimeout: 2m}
`)
	got, err := c.actions(t, "-f", file)
	if want := "change outbound tcp/web at home\ncreate outbound udp/dns at home"; got != want || err != nil {
		t.Errorf("got %v:\n%s", err, got)
	}
	o := b.OutboundStatus(t, "tcp/web").Outbound
	if o.RateUp != 2e6 || len(o.Users) != 2 || o.Targets[0].String() != "127.0.0.1:80" {
		t.Errorf("tcp/web is %+v", o)
	}
	got, err = c.actions(t, "-f", file, "--prune")
	if want := "keep outbound tcp/web at home\nkeep outbound udp/dns at home\nremove outbound tcp/old at home"; got != want || err != nil {
		t.Errorf("with --prune, %v:\n%s", err, got)
	}
	if len(b.App.Status().Outbound) != 2 || len(a.App.Status().Inbound) != 1 {
		t.Error("it removed something else, or nothing")
	}
}

func TestApplyOfABadFileChangesNothing(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice")
	tunneltest.Join(t, &n, "shop", "bob")
	c := consoleAt(a)
	good := "tunnels:\n- name: tcp/web\n  outbound:\n  - {endpoint: home, targets: [80]}\n"
	tests := []struct{ name, more, text string }{
		{"unknown endpoint", "- {name: tcp/x, outbound: [{endpoint: nowhere, targets: [1]}]}", `endpoint "nowhere" not found`},
		{"no endpoint", "- {name: tcp/x, outbound: [{targets: [1]}]}", "an endpoint is missing"},
		{"another user's", "- {name: tcp/x, outbound: [{endpoint: shop, targets: [1]}]}", "endpoint shop belongs to user bob"},
		{"misspelt field", "- {name: tcp/x, outbound: [{endpoint: home, targets: [1], user: [bob]}]}", "user"},
		{"no target", "- {name: tcp/x, outbound: [{endpoint: home}]}", `tunnel "tcp/x": at home: outbound tcp/x: targets: want at least one`},
		{"bad address", `- {name: tcp/x, outbound: [{endpoint: home, targets: [":80"]}]}`, "write *:80"},
		{"bad name", "- {name: web, outbound: [{endpoint: home, targets: [1]}]}", "want tcp/NAME"},
		{"twice", "- {name: tcp/web, outbound: [{endpoint: home, targets: [1]}]}", "outbound at home is there twice"},
		{"unknown exit", "- {name: tcp/x, inbound: [{endpoint: home, listens: [1], exits: [nowhere]}]}", `endpoint "nowhere" not found`},
		{"octal port that is none", "- {name: tcp/x, outbound: [{endpoint: home, targets: [0999999]}]}", "is not a port"},
		{"hexadecimal port", "- {name: tcp/x, outbound: [{endpoint: home, targets: [0x50]}]}", "is not a port"},
		{"port with an exponent", "- {name: tcp/x, outbound: [{endpoint: home, targets: [1e3]}]}", "is not a port"},
		{"port with a fraction", "- {name: tcp/x, outbound: [{endpoint: home, targets: [80.0]}]}", "is not a port"},
		{"port with an underscore", "- {name: tcp/x, outbound: [{endpoint: home, targets: [8_0]}]}", "is not a port"},
		{"name in another script", "- {name: tcp/x, outbound: [{endpoint: home, targets: ['пример.рф:80']}]}", "letters of DNS"},
		{"user that nobody can be", "- {name: tcp/x, outbound: [{endpoint: home, targets: [1], users: ['label:']}]}", "neither a user nor a group"},
		{"rule twice", "allow: [{endpoint: home, target: 'X:1', users: [bob]}, {endpoint: home, target: 'x:1', users: [carol]}]", "x:1 is there twice"},
		{"rule for a group", "allow: [{endpoint: home, target: 'x:1', users: ['group:']}]", "neither a user nor a group"},
		{"rule without users", "allow: [{endpoint: home, target: 'x:1'}]", "a rule has a target and users"},
		{"no YAML", "- [", "yaml"},
		{"odd key", "odd: 2", "unknown field"},
		{"key that is a number", "1: 2", "a key is not a text"},
		{"a text for a list", "- {name: tcp/x, outbound: [{endpoint: home, targets: x}]}", "tunnels.outbound.targets cannot be a string"},
		{"listing", "", "it has no list of tunnels: `ztm tunnel export` prints what such a file looks like"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := good + test.more + "\n"
			if test.name == "listing" {
				text = "- tcp/web\n"
			}
			_, err := c.actions(t, "-f", writeFile(t, text))
			if err == nil || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "json: ") {
				t.Errorf("got %v, want %q", err, test.text)
			}
			if len(b.App.Status().Outbound) != 0 {
				t.Error("something was opened")
			}
		})
	}
	if _, err := c.actions(t, "-f", "/nonexistent"); err == nil {
		t.Error("a file that is not there was applied")
	}
}

func TestApplyGoesOnAfterAFailureAndReportsIt(t *testing.T) {
	var n appstest.Net
	home := tunneltest.Join(t, &n, "home", "alice")
	c := consoleAt(home)
	c.In = strings.NewReader(fmt.Sprintf(`{"tunnels":[
		{"name":"tcp/a","inbound":[{"endpoint":"home","listens":[%q]}]},
		{"name":"tcp/b","inbound":[{"endpoint":"home","listens":["127.0.0.1:0"]}]}]}`, tunneltest.Server(t, "x")))
	_, err := c.actions(t, "-f", "-")
	if err == nil || !strings.Contains(err.Error(), "endpoint home: listen 127.0.0.1:") {
		t.Errorf("got %v", err)
	}
	if got := home.App.Status().Inbound; len(got) != 1 || got[0].Name != "b" {
		t.Errorf("opened %v", got)
	}
	if plan := c.last.([]Change); plan[0].Error == "" || plan[1].Error != "" {
		t.Errorf("reported %+v", plan)
	}
}

func TestPortInAFileIsReadAsOnTheCommandLine(t *testing.T) {
	var n appstest.Net
	home := tunneltest.Join(t, &n, "home", "alice")
	file := writeFile(t, "tunnels: [{name: tcp/a, outbound: [{endpoint: home, targets: [0123]}]}]")
	if _, err := consoleAt(home).actions(t, "-f", file); err != nil {
		t.Fatal(err)
	}
	if got := home.OutboundStatus(t, "tcp/a").Targets[0]; got.First != 123 {
		t.Errorf("0123 is port %d", got.First)
	}
}
