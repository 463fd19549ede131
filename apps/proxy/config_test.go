package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

func TestListenAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"1080": "127.0.0.1:1080", "0.0.0.0:1080": "0.0.0.0:1080", "localhost:1080": "127.0.0.1:1080", "[::]:1080": "[::]:1080",
		"[::ffff:10.0.0.1]:1080": "10.0.0.1:1080", "0": "127.0.0.1:0", "unix:/run/x/../p.sock": "unix:/run/p.sock",
		"": "", ":1080": "", "example.com:1080": "", "70000": "", "1.2.3.4": "", "unix:p.sock": "", "unix:": "", "unix:/" + strings.Repeat("x", 200): "",
	} {
		l, err := parseListen(text)
		if err == nil && l.network == "tcp" && !strings.HasPrefix(l.address, "[") {
			t.Errorf("%q is every IPv6 address, too", text)
		}
		if want == "" && err == nil || want != "" && l.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, l, err, want)
		}
	}
}

func TestAChangeIsMadeAsAWholeOrNotAtAll(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice", Options{})
	before := e.change(t, Change{AddTargets: []string{"*.Example.com."}, AddExclusions: []string{"10.0.0.1/8"}, Trust: []string{"bob"}})
	bad := "sometimes"
	for name, ch := range map[string]Change{
		"a pattern":            {AddTargets: []string{"a.com", "a b"}},
		"a missing target":     {AddTargets: []string{"a.com"}, RemoveTargets: []string{"b.com"}},
		"a missing exclusion":  {AddTargets: []string{"a.com"}, RemoveExclusions: []string{"b.com"}},
		"a missing route":      {AddTargets: []string{"a.com"}, RemoveRoutes: []string{"b.com"}},
		"a missing user":       {AddTargets: []string{"a.com"}, Distrust: []string{"carol"}},
		"an unknown endpoint":  {AddTargets: []string{"a.com"}, Via: map[string]string{"b.com": "nowhere"}},
		"a listen address":     {AddTargets: []string{"a.com"}, SetListens: &[]string{"example.com:80"}},
		"an unknown default":   {AddTargets: []string{"a.com"}, Default: &bad},
		"a DNS address":        {AddTargets: []string{"a.com"}, DNS: &bad},
		"a route's pattern":    {AddTargets: []string{"a.com"}, Direct: []string{"*.*"}},
		"a list without limit": {AddTargets: make([]string, maxListed+1)},
	} {
		if err := e.call("PATCH", "/config", ch, nil); err == nil || answer.CodeOf(err) == answer.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	var after View
	if err := e.call("GET", "/config", nil, &after); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the configuration changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"*.example.com"}, after.Targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestTheConfigurationOutlivesTheAgent(t *testing.T) {
	var n appstest.Net
	host := n.Join("out", "alice")
	first := &endpoint{Host: host, app: host.New("proxy", New).(*App)}
	want := first.change(t, Change{SetListens: &[]string{"1080"}, AddTargets: []string{"*.example.com"}, Direct: []string{"a.com"}})
	if err := first.call("PUT", "/credentials/me", map[string]string{"password": "secret"}, &want); err != nil {
		t.Fatal(err)
	}
	second := &endpoint{Host: host, app: host.New("proxy", New).(*App)}
	var got View
	if err := second.call("GET", "/config", nil, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !second.app.credentials.check(t.Context(), "me", "secret") || second.app.credentials.check(t.Context(), "me", "Secret") {
		t.Error("the password is another one")
	}
	if len(second.app.settings.Load().exit.Targets) != 1 {
		t.Error("the targets are not in force")
	}
}

func TestAStoredConfigurationThatMakesNoSenseServesNothing(t *testing.T) {
	var n appstest.Net
	host := n.Join("out", "alice")
	log := &appstest.Buffer{}
	host.Log = log
	host.New("proxy", func(h apps.Host) apps.App {
		h.State.Save(configKey, Config{Targets: []string{"*"}, Exclusions: []string{"of a later version?"}, Listens: []string{"1080"}})
		return New(h)
	})
	app := host.New("proxy", New).(*App)
	s := app.settings.Load()
	if len(s.exit.Targets)+len(s.listens) > 0 || log.Count(slog.LevelError)+log.Count(slog.LevelWarn) == 0 {
		t.Errorf("in force: %+v; log: %s", s, log)
	}
}

func TestAnExitIsOffered(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice", Options{})
	offers := func() []string { return e.Self().Offers }
	e.change(t, Change{AddTargets: []string{"*.example.com"}})
	appstest.Eventually(t, "the offer", func() bool { return cmp.Equal(offers(), []string{exitOffer}) })
	e.change(t, Change{RemoveTargets: []string{"*.example.com"}})
	appstest.Eventually(t, "its end", func() bool { return len(offers()) == 0 })
}

func TestAPasswordIsNeverShownOrStored(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "in", "alice", Options{})
	var stored json.RawMessage
	if err := e.call("PUT", "/credentials/me", map[string]string{"password": "tops3cret"}, &stored); err != nil {
		t.Fatal(err)
	}
	users, err := e.app.loadCredentials()
	if err != nil {
		t.Fatal(err)
	}
	kept, _ := json.Marshal(users)
	if s := string(stored) + string(kept) + e.log.String(); strings.Contains(s, "tops3cret") {
		t.Errorf("the password is in %s", s)
	}
	for user, password := range map[string]string{"": "x", "a:b": "x", "me": "", strings.Repeat("x", 256): "x", "you": strings.Repeat("x", 256)} {
		if err := checkCredential(user, password); err == nil {
			t.Errorf("%.20q with %.20q is accepted", user, password)
		}
	}
}

func TestAUnixSocketIsForThisUserAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.sock")
	in, _ := pair(t, Options{Resolver: names("a.example.com"), Dial: says(t, "out")}, "*.example.com")
	ln, err := net.Listen("unix", path) // left by a process that did not end properly
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	in.change(t, Change{SetListens: &[]string{"unix:" + path}})
	if bound := in.bound(t, false); bound != "unix:"+path {
		t.Errorf("bound to %q", bound)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("\x04\x01\x00\x50\x00\x00\x00\x01\x00a.example.com\x00"))
	b := make([]byte, 100)
	n, _ := c.Read(b)
	if n < 8 || b[1] != granted4 {
		t.Errorf("answer %x", b[:n])
	}

	write(t, filepath.Join(dir, "file"), "precious")
	in.change(t, Change{SetListens: &[]string{"unix:" + filepath.Join(dir, "file")}})
	appstest.Eventually(t, "a refusal", func() bool {
		st := in.app.doors.status()
		return len(st) == 1 && !st[0].Open && st[0].Error != ""
	})
	if b, _ := os.ReadFile(filepath.Join(dir, "file")); string(b) != "precious" {
		t.Errorf("the file now has %q", b)
	}
}

func TestAPortThatIsTakenIsShownAndTriedAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	in, _ := pair(t, Options{}, "*.example.com")
	in.change(t, Change{SetListens: &[]string{ln.Addr().String()}})
	status := func() DoorStatus {
		if st := in.app.doors.status(); len(st) == 1 {
			return st[0]
		}
		return DoorStatus{}
	}
	appstest.Eventually(t, "the error", func() bool { return status().Error != "" })
	ln.Close()
	in.app.doors.poke() // sooner than by itself
	appstest.Eventually(t, "the port", func() bool { return status().Open })
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
	e, office := join(t, &n, "in", "alice", Options{}), join(t, &n, "office", "alice", Options{})
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
	if got := reach.Texts(office.app.settings.Load().exit.Targets); !cmp.Equal(got, []string{"10.0.0.0/8"}) {
		t.Errorf("at the other endpoint: %q", got)
	}
}

func TestRulesCommand(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice", Options{})
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
	e := join(t, &n, "out", "alice", Options{})
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
	in := join(t, &n, "in", "alice", Options{})
	join(t, &n, "mine", "alice", Options{}).change(t, Change{AddTargets: []string{"*.example.com"}})
	bobs := join(t, &n, "bobs", "bob", Options{})
	bobs.change(t, Change{AddTargets: []string{"*"}})
	bobs.allow(t, "alice", "10.0.0.0/8")
	join(t, &n, "carols", "carol", Options{}).change(t, Change{AddTargets: []string{"*"}})
	address := in.listen(t)
	out, _, err := run(in, nil, "", "status")
	got := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"Listen " + address + " open", "Clients 0 0 in all", "Exit mine of user alice, ", "*.example.com",
		"Exit bobs of user bob, ", "10.0.0.0/8, (used by --add-via alone: its user is not trusted)", `Exit carols of user carol, nothing here is for user "alice"`,
	} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%v, no %q in\n%s", err, want, got)
		}
	}
}
