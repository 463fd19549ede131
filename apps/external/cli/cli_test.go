package cli

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/apps/appstest"
	"ztm/apps/external"
	"ztm/apps/external/install"
	"ztm/apps/external/run"
)

func TestMain(m *testing.M) {
	if status, is := external.Applet(os.Args, os.Stdin); is {
		os.Exit(status)
	}
	os.Exit(appstest.Run(m))
}

// mesh is an endpoint of alice and one of bob, without a cloud.
type mesh struct {
	t          *testing.T
	net        appstest.Net
	alice, bob *appstest.Host
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{t: t}
	m.alice, m.bob = m.net.Join("office", "alice"), m.net.Join("phone", "bob")
	for _, h := range []*appstest.Host{m.alice, m.bob} {
		h.Dir = t.TempDir()
		h.Start(t, external.Name, external.New)
	}
	return m
}

// run types a command at alice's endpoint, with answers.
func (m *mesh) run(typed string, args ...string) appstest.Result {
	c := &appstest.Console{Host: m.alice, JSON: args[0] == "get", In: strings.NewReader(typed)}
	all := commands(c)
	top := all.Top[0]
	switch args[0] {
	case "get":
		top = &cli.Command{Name: "get", Subcommands: all.Get}
	case "describe":
		top = &cli.Command{Name: "describe", Subcommands: all.Describe}
	default:
		args = append([]string{"app"}, args...)
	}
	return c.Capture(func() error { return appstest.RunCommand(top, args[1:]...) })
}

// good is run for what must work.
func (m *mesh) good(args ...string) appstest.Result {
	m.t.Helper()
	r := m.run("", args...)
	if r.Failure != "" || r.Status != 0 {
		m.t.Fatalf("%v: %s\n%s", args, r.Failure, r.Err)
	}
	return r
}

// apps lists what is installed.
func (m *mesh) apps() (list []external.Shown) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(m.good("get", "app").Out), &list); err != nil {
		m.t.Fatal(err)
	}
	return list
}

// project makes the directory of an app that asks for rights.
func project(t *testing.T, rights string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "guests")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "app.json", `{"name": "guests", "version": "1.0", "exec": {"any": ["main.sh"]}, "rights": `+rights+`}`)
	write(t, dir, "main.sh", "#!/bin/sh\n")
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestAnAppIsInstalledFromADirectoryAndManagedByItsName(t *testing.T) {
	m := newMesh(t)
	dir := project(t, "{}")
	m.good("install", "--yes", dir)
	m.good("grant", "guests", "bob")
	m.good("disable", "alice/guests")
	list := m.apps()
	if len(list) != 1 || list[0].Manifest.ID() != "alice/guests" || !slices.Equal(list[0].Users, []string{"bob"}) || !list[0].Disabled {
		t.Fatalf("what is installed: %+v", list)
	}
	write(t, dir, "page.html", "new")
	m.good("install", "--yes", dir)
	if list = m.apps(); list[0].Manifest.Sequence != 2 || list[0].Previous != 1 {
		t.Errorf("after the second installation: %+v", list)
	}
	m.good("rollback", "guests")
	if list = m.apps(); list[0].Manifest.Sequence != 1 {
		t.Errorf("after the rollback: %+v", list)
	}
	m.good("enable", "guests")
	m.good("revoke", "guests", "bob")
	shown := m.good("describe", "app", "guests").Out
	for _, want := range []string{"alice/guests", "1.0 (sequence 1)", "sequence 2", "stopped"} {
		if !strings.Contains(shown, want) {
			t.Errorf("describe shows no %q:\n%s", want, shown)
		}
	}
	m.good("erase", "--with-data", "guests")
	if list = m.apps(); len(list) != 0 {
		t.Errorf("after it was erased: %+v", list)
	}
}

func TestNothingIsInstalledUntilTheOwnerAgreesToItsRights(t *testing.T) {
	m := newMesh(t)
	dir := project(t, `{"net": "any", "apps": ["bob/chat"]}`)
	for _, typed := range []string{"", "\n", "n\n", "what?\n"} {
		r := m.run(typed, "install", dir)
		if r.Failure == "" || len(m.apps()) != 0 || typed == "" && !strings.HasSuffix(r.Err, "\n") {
			t.Errorf("typed %q: %q", typed, r.Failure)
		}
		for _, want := range []string{"use the network", "bob/chat"} {
			if !strings.Contains(r.Err, want) {
				t.Errorf("typed %q: %q was not shown:\n%s", typed, want, r.Err)
			}
		}
	}
	if r := m.run("y\n", "install", dir); r.Failure != "" || len(m.apps()) != 1 {
		t.Fatalf("typed y: %s", r.Failure)
	}
	if r := m.run("", "install", dir); r.Failure != "" {
		t.Errorf("the same rights once more: %s", r.Failure)
	}
	write(t, dir, "app.json", `{"name": "guests", "version": "2.0", "exec": {"any": ["main.sh"]}, "rights": {"net": "any", "apps": ["bob/chat"], "exec": true}}`)
	r := m.run("", "install", dir)
	if r.Failure == "" || !strings.Contains(r.Err, "run the programs") || strings.Contains(r.Err, "bob/chat") {
		t.Errorf("rights that grew: %s\n%s", r.Failure, r.Err)
	}
}

func TestAnAppOfAnotherUserIsNobodyElsesToManage(t *testing.T) {
	m := newMesh(t)
	m.good("install", "--yes", project(t, "{}"))
	m.good("grant", "guests", "bob") // who may use it may not do more
	laptop := m.net.Join("laptop", "alice")
	opens := func(from *appstest.Host, path string) bool {
		conn, err := from.Open(t.Context(), m.alice.Self().ID, path, url.Values{"app": {"alice/guests"}})
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	for _, path := range []string{"app/install", "app/sign", "app/log"} {
		if opens(m.bob, path) || !opens(laptop, path) {
			t.Errorf("%s is not for the owner alone", path)
		}
	}
	for _, path := range []string{"app/run", "app/other"} {
		if opens(m.bob, path) || opens(laptop, path) {
			t.Errorf("%s was opened from another endpoint", path)
		}
	}
}

func TestWhatIsTypedWrongSaysWhatIsMissing(t *testing.T) {
	m := newMesh(t)
	for _, args := range [][]string{{"install"}, {"install", "a", "b"}, {"grant", "guests"}, {"start"}, {"start", "a/b/c"}, {"unpublish", "alice/guests"},
		{"unpublish", "guests@x"}, {"init"}, {"init", "--lang=cobol", t.TempDir()}, {"install", "guests"}} {
		if r := m.run("", args...); r.Failure == "" {
			t.Errorf("%q: no error", args)
		}
	}
	if r := m.run("", "start", "guests"); !strings.Contains(r.Failure, "guests") {
		t.Errorf("an app that is not there: %q", r.Failure)
	}
}

func TestANewAppIsOneThatCanBeInstalled(t *testing.T) {
	m := newMesh(t)
	dir := filepath.Join(t.TempDir(), "Hello")
	m.good("init", dir)
	m.good("install", "--yes", dir)
	if list := m.apps(); len(list) != 1 || list[0].Manifest.ID() != "alice/hello" {
		t.Errorf("installed: %+v", list)
	}
	if r := m.run("", "init", dir); r.Failure == "" {
		t.Error("a second init has replaced the files of the first")
	}
	m.good("init", "--lang=go", filepath.Join(t.TempDir(), "other"))
}

func TestThatAnAppWasStoppedIsNoProblemOfIt(t *testing.T) {
	for _, tt := range []struct {
		app  external.Shown
		want string
	}{
		{external.Shown{Status: run.Status{State: run.Stopped, Ended: "nobody used it"}}, ""},
		{external.Shown{Status: run.Status{State: run.Running, Error: "exit status 3"}}, ""},
		{external.Shown{Status: run.Status{State: run.Waiting, Error: "exit status 3"}}, "exit status 3"},
		{external.Shown{App: install.App{Problem: "a file is missing"}, Status: run.Status{State: run.Running}}, "a file is missing"},
	} {
		if got := problem(&tt.app); got != tt.want {
			t.Errorf("%+v has the problem %q, want %q", tt.app.Status, got, tt.want)
		}
	}
}

func TestTextOfAProgramCannotCommandTheTerminal(t *testing.T) {
	var out strings.Builder
	if err := printLines(&out, strings.NewReader("one\x1b[2J\ttwo\nthree")); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "one?[2J    two\nthree\n" {
		t.Errorf("printed %q", got)
	}
}
