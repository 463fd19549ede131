package cli

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/proxy"
	"ztm/apps/proxy/policy"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// endpoint is one endpoint of a test mesh, with its proxy running.
type endpoint struct{ *appstest.Host }

func join(t *testing.T, n *appstest.Net, name, user string) *endpoint {
	t.Helper()
	e := &endpoint{n.Join(name, user)}
	e.Start(t, "proxy", func(h apps.Host) apps.App { return proxy.NewWith(h, proxy.Options{ResolvConf: os.DevNull}) })
	return e
}

func (e *endpoint) call(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := e.API(method, "proxy"+path, in, out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (e *endpoint) change(t *testing.T, ch proxy.Change) (v proxy.View) {
	t.Helper()
	e.call(t, "PATCH", "/config", ch, &v)
	return v
}

func (e *endpoint) status(t *testing.T) (s proxy.Status) {
	t.Helper()
	e.call(t, "GET", "/status", nil, &s)
	return s
}

func (e *endpoint) allow(t *testing.T, user string, targets ...string) {
	t.Helper()
	e.call(t, "POST", "/rules", policy.Rule{Users: []string{user}, Targets: targets, Action: "allow"}, nil)
}

// listen makes the endpoint listen on a port of its own choice and returns the address.
func (e *endpoint) listen(t *testing.T) (address string) {
	t.Helper()
	e.change(t, proxy.Change{SetListens: &[]string{"127.0.0.1:0"}})
	appstest.Eventually(t, "a listener", func() bool {
		for _, l := range e.status(t).Listeners {
			address = l.Bound
		}
		return address != ""
	})
	return address
}

// run runs a command line at an endpoint.
func run(e *endpoint, at *appstest.Host, stdin string, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	c := &appstest.Console{Host: e.Host, At: at, In: strings.NewReader(stdin), Out: &out, Err: &errOut}
	app := &cli.App{Commands: []*cli.Command{commands(c)}, DisableSliceFlagSeparator: true, Writer: &errOut, ErrWriter: &errOut,
		ExitErrHandler: func(*cli.Context, error) {}}
	err = app.RunContext(context.Background(), append([]string{"ztm", "proxy"}, args...))
	return out.String(), errOut.String(), err
}

func TestConfigCommand(t *testing.T) {
	var n appstest.Net
	e, office := join(t, &n, "in", "alice"), join(t, &n, "office", "alice")
	for _, tt := range []struct {
		args  []string
		stdin string
		want  []string // parts of the output, in which spaces are one
	}{
		{nil, "", []string{"Endpoint in", "Listen (not listening)", "DNS (off)", "Credentials (none)", "Routes (none)", "Trusted Users (own user only)",
			"Without Exit refuse", "Targets (not an exit)", "Excluded Targets (none)"}},
		{[]string{"--set-listen", "0.0.0.0:0", "--set-listen", "127.0.0.1:0"}, "", []string{"Listen 0.0.0.0:0 127.0.0.1:0", "warning: anybody who reaches 0.0.0.0:0 may use this proxy"}},
		{[]string{"--add-credential", "me"}, "secret\n", []string{"Credentials me"}},
		{[]string{"--set-listen", ""}, "", []string{"Listen (not listening)"}},
		{[]string{"--via", "*.Office.example.com=office", "--direct", "example.com"}, "", []string{"*.office.example.com via office", "example.com direct"}},
		{[]string{"--remove-via", "example.com", "--trust", "bob", "--default", "direct"}, "", []string{"Routes *.office.example.com via office Trusted Users bob Without Exit direct"}},
		{[]string{"--add-target", "*.svc.cluster.local", "--add-target", "10.43.0.0/16", "--add-exclusion", "10.43.0.1"}, "", []string{"Targets *.svc.cluster.local 10.43.0.0/16 Excluded Targets 10.43.0.1"}},
		{[]string{"--remove-target", "10.43.0.0/16", "--remove-exclusion", "10.43.0.1"}, "", []string{"Targets *.svc.cluster.local Excluded Targets (none)"}},
		{[]string{"--remove-credential", "me"}, "", []string{"Credentials (none)"}},
		{[]string{"--dns", "0"}, "", []string{"DNS 127.0.0.1:0"}},
		{[]string{"--dns", ""}, "", []string{"DNS (off)"}},
	} {
		out, errOut, err := run(e, nil, tt.stdin, append([]string{"config"}, tt.args...)...)
		got := strings.Join(strings.Fields(out+" "+errOut), " ")
		for _, want := range tt.want {
			if err != nil || !strings.Contains(got, want) {
				t.Errorf("config %q: %v, no %q in\n%s", tt.args, err, want, got)
			}
		}
	}
	if _, _, err := run(e, office.Host, "", "config", "--add-target", "10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	if got := office.change(t, proxy.Change{}).Targets; !slices.Equal(got, []string{"10.0.0.0/8"}) {
		t.Errorf("at the other endpoint: %q", got)
	}
}

func TestRulesCommand(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice")
	for _, tt := range []struct{ args, want string }{
		{"", "TARGETS USERS ACTION"},
		{"--users bob --users carol --targets *.example.com --action allow", "#0 *.example.com bob carol allow"},
		{"--action deny", "#0 *.example.com bob carol allow #1 * * deny"},
		{"--index 0 --insert --users bob --targets 10.0.0.1 --targets a.com:22 --action deny", "#0 10.0.0.1 a.com:22 bob deny #1 *.example.com bob carol allow #2 * * deny"},
		{"--index 1 --users dora", "#1 *.example.com dora allow"},
		{"--index 1 --delete", "#0 10.0.0.1 a.com:22 bob deny #1 * * deny"},
	} {
		out, _, err := run(e, nil, "", append([]string{"rules"}, strings.Fields(tt.args)...)...)
		if got := strings.Join(strings.Fields(out), " "); err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("rules %s: %v, no %q in\n%s", tt.args, err, tt.want, got)
		}
	}
}

func TestWrongUse(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice")
	for _, args := range []string{
		"config extra", "config --via a.com", "config --via a.com=", "rules --delete", "rules --index x", "rules --index 0", "rules --insert",
		"rules --users bob", "rules --index 0 --delete --users bob", "rules --index 0 --delete --insert", "status extra",
	} {
		_, _, err := run(e, nil, "", strings.Fields(args)...)
		if _, ok := err.(*apps.UsageError); !ok {
			t.Errorf("%s: %v, want a usage error", args, err)
		}
	}
	for args, want := range map[string]answer.Code{
		"config --add-target 127.1":                      answer.BadRequest,
		"config --remove-target a.com":                   answer.NotFound,
		"config --default sometimes":                     answer.BadRequest,
		"rules --action allow":                           answer.BadRequest,
		"rules --index 7 --delete":                       answer.NotFound,
		"rules --index 7 --insert --action deny":         answer.NotFound,
		"config --remove-credential nobody":              answer.NotFound,
		"config --set-listen example.com:1":              answer.BadRequest,
		"rules --users bob --targets a..b --action deny": answer.BadRequest,
	} {
		if _, _, err := run(e, nil, "", strings.Fields(args)...); answer.CodeOf(err) != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	if _, _, err := run(e, nil, "", "config", "--add-credential", "me"); err == nil {
		t.Error("a password was found where there is none")
	}
}

func TestStatusCommand(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice")
	join(t, &n, "mine", "alice").change(t, proxy.Change{AddTargets: []string{"*.example.com"}})
	bobs := join(t, &n, "bobs", "bob")
	bobs.change(t, proxy.Change{AddTargets: []string{"*"}})
	bobs.allow(t, "alice", "10.0.0.0/8")
	join(t, &n, "carols", "carol").change(t, proxy.Change{AddTargets: []string{"*"}})
	address := in.listen(t)
	out, _, err := run(in, nil, "", "status")
	got := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"Listen " + address + " open", "Clients 0 0 in all", "Exit mine of user alice, ", "*.example.com",
		"Exit bobs of user bob, ", "10.0.0.0/8, (used by --add-via alone: its user is not trusted)", "Exit carols of user carol, not allowed (ref ",
	} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%v, no %q in\n%s", err, want, got)
		}
	}
}

func TestWhereCommand(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice")
	join(t, &n, "mine", "alice").change(t, proxy.Change{AddTargets: []string{"*.example.com"}})
	in.change(t, proxy.Change{Direct: []string{"here.test"}})
	for target, want := range map[string]string{
		"a.example.com": "at mine target of user alice", "here.test:80": "from here route here.test", "other.net": "nowhere no exit serves other.net",
	} {
		out, _, err := run(in, nil, "", "where", target)
		if got := strings.Join(strings.Fields(out), " "); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, no %q in\n%s", target, err, want, got)
		}
	}
	if _, _, err := run(in, nil, "", "where"); err == nil {
		t.Error("nothing was asked, and it was answered")
	}
}

func TestOptionsThatMayBeEmptySaySo(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "in", "alice")
	e.listen(t)
	for _, c := range commands(&appstest.Console{Host: e.Host}).Subcommands {
		for _, f := range c.Flags {
			name := f.Names()[0]
			if name != "set-listen" && name != "dns" {
				continue
			}
			if usage := f.(cli.DocGenerationFlag).GetUsage(); !strings.Contains(usage, "`[") {
				t.Errorf("--%s: %s", name, usage)
			}
		}
	}
	if err := appstest.RunCommand(commands(&appstest.Console{Host: e.Host}), "config", "--set-listen="); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "the listener to close", func() bool { return len(e.status(t).Listeners) == 0 })
}
