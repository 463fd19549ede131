package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/agent/api"
	"ztm/agent/api/apitest"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// shell is a console with an environment, whose output is kept.
type shell struct {
	*Console
	stdout, stderr bytes.Buffer
	env            map[string]string
}

func newShell(env map[string]string) *shell {
	s := &shell{env: env}
	s.Console = New(Config{Stdout: &s.stdout, Stderr: &s.stderr, Getenv: func(name string) string { return s.env[name] }})
	return s
}

// run runs a command line and returns its output, its errors and its status.
func (s *shell) run(line string, commands ...*cli.Command) (stdout, stderr string, status int) {
	status = s.Run(context.Background(), strings.Fields(line), commands)
	stdout, stderr = s.stdout.String(), s.stderr.String()
	s.stdout.Reset()
	s.stderr.Reset()
	return stdout, stderr, status
}

func TestFailuresHaveTheirStatus(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		stderr string
	}{
		{"none", nil, 0, ""},
		{"any", errors.New("step: cause"), 1, "ztm: step: cause\n"},
		{"of the agent", answer.Errorf(answer.Refused, "refused"), 1, "ztm: refused\n"},
		{"usage", &apps.UsageError{Err: errors.New("bad name")}, 2, "ztm: bad name\n"},
		{"something missing", apps.Usagef("missing NAME"), 2, "ztm: missing NAME\nhint: usage: ztm do\n"},
		{"hint", &apps.HintError{Err: errors.New("no"), Hint: "try this"}, 1, "ztm: no\nhint: try this\n"},
		{"usage with hint", &apps.UsageError{Err: &apps.HintError{Err: errors.New("no"), Hint: "try this"}}, 2, "ztm: no\nhint: try this\n"},
		{"given status", &apps.ExitError{Status: 7}, 7, ""},
		{"joined", errors.Join(errors.New("one"), errors.New("two")), 1, "ztm: one; two\n"},
		{"hostile text", errors.New("a\r\nztm: \x1b[31mb"), 1, "ztm: a?; ztm: ?[31mb\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShell(map[string]string{"HOME": t.TempDir()})
			_, stderr, status := s.run("do", &cli.Command{Name: "do", Action: func(*cli.Context) error { return tt.err }})
			if status != tt.status || stderr != tt.stderr {
				t.Errorf("status %d, %q; want %d, %q", status, stderr, tt.status, tt.stderr)
			}
		})
	}
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	s := newShell(map[string]string{"HOME": t.TempDir()})
	ctx, cancel := context.WithCancel(context.Background())
	status := s.Run(ctx, []string{"do"}, []*cli.Command{{Name: "do", Action: func(x *cli.Context) error {
		cancel()
		return x.Context.Err()
	}}})
	if got := s.stderr.String(); status != 1 || got != "ztm: interrupted\n" {
		t.Errorf("status %d, %q", status, got)
	}
}

// TestCommandsGetWhatWasTyped holds the grammar and the flag parser together: what the one
// understood must reach the action through the other.
func TestCommandsGetWhatWasTyped(t *testing.T) {
	type typed struct {
		Names, Users []string
		Name, Mesh   string
		Wait         string
		Force        bool
		Data, Format string
		Inner        bool
	}
	for _, tt := range []struct {
		line string
		want typed
	}{
		{"open tcp/web --users root alice --name=x", typed{Names: []string{"tcp/web"}, Users: []string{"root", "alice"}, Name: "x"}},
		{"open --users a,b -- -x --force", typed{Names: []string{"-x", "--force"}, Users: []string{"a,b"}}},
		{"open --users= -f y --users - z", typed{Names: []string{"y"}, Users: []string{"", "-", "z"}, Force: true}},
		{"open --force=false --wait 1h", typed{Wait: "1h0m0s"}},
		{"open x inner", typed{Names: []string{"x", "inner"}}},
		{"open -- inner", typed{Names: []string{"inner"}}},
		{"open inner", typed{Inner: true}},
		{"-d dir open -o json", typed{Data: "dir", Format: "json"}},
		{"open --name", typed{}},
	} {
		t.Run(tt.line, func(t *testing.T) {
			s := newShell(map[string]string{"HOME": "/home/x"})
			got := typed{}
			open := &cli.Command{
				Name: "open", ArgsUsage: "[NAME...]",
				Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "users"},
					&cli.StringFlag{Name: "name", Usage: "`[TEXT]`"},
					&cli.DurationFlag{Name: "wait"},
					&cli.BoolFlag{Name: "force", Aliases: []string{"f"}},
				},
				Action: func(x *cli.Context) error {
					got = typed{Names: x.Args().Slice(), Users: x.StringSlice("users"), Name: x.String("name"), Force: x.Bool("force")}
					if x.IsSet("wait") {
						got.Wait = x.Duration("wait").String()
					}
					return nil
				},
				Subcommands: []*cli.Command{{Name: "inner", Action: func(*cli.Context) error { got.Inner = true; return nil }}},
			}
			if _, stderr, status := s.run(tt.line, open); status != 0 {
				t.Fatal(stderr)
			}
			got.Mesh, got.Data, got.Format = s.mesh, s.data, s.format
			want := tt.want
			if want.Data == "" {
				want.Data = "/home/x/.ztm"
			}
			if want.Format == "" {
				want.Format = "table"
			}
			if len(got.Names) == 0 {
				got.Names = nil
			}
			if len(got.Users) == 0 {
				got.Users = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAppsOutputOptionIsItsOwn(t *testing.T) {
	s := newShell(map[string]string{"HOME": t.TempDir()})
	got := ""
	download := &cli.Command{
		Name: "download", Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}}},
		Action: func(x *cli.Context) error { got = x.String("output"); return nil },
	}
	if _, stderr, status := s.run("download -o file.bin", download); status != 0 || got != "file.bin" || s.format != "table" {
		t.Errorf("status %d, %q, file %q, format %q", status, stderr, got, s.format)
	}
}

func TestTheAgentIsChosen(t *testing.T) {
	home := t.TempDir()
	for _, tt := range []struct{ name, settings, env, args, want string }{
		{"usual", "", "", "", filepath.Join(home, ".ztm")},
		{"settings", `{"data": "/s"}`, "", "", "/s"},
		{"environment", `{"data": "/s"}`, "/e", "", "/e"},
		{"option", `{"data": "/s"}`, "/e", "--data /o", "/o"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(home, ".ztm.conf"), []byte(`{}`+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.settings != "" {
				if err := os.WriteFile(filepath.Join(home, ".ztm.conf"), []byte(tt.settings), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := newShell(map[string]string{"HOME": home, "ZTM_DATA": tt.env})
			if _, stderr, _ := s.run(tt.args + " version"); s.data != tt.want {
				t.Errorf("data %q, want %q; %s", s.data, tt.want, stderr)
			}
		})
	}
}

func TestAHomeIsMissedOnlyByWhatNeedsTheAgent(t *testing.T) {
	t.Setenv("HOME", "")
	s := newShell(nil)
	if _, stderr, status := s.run("version"); status != 0 {
		t.Error(stderr)
	}
	if err := s.Call(t.Context(), "GET", "x", nil, nil); err == nil || err != s.homeless {
		t.Error(err)
	}
	if dir, err := s.DataDir(); err == nil {
		t.Errorf("the data directory is %q", dir)
	}
	if _, stderr, _ := s.run("--data /d version"); s.homeless != nil || s.data != "/d" {
		t.Errorf("data %q; %s", s.data, stderr)
	}
}

func TestConfigKeepsWhatIsSet(t *testing.T) {
	home := t.TempDir()
	s := newShell(map[string]string{"HOME": home})
	for _, tt := range []struct{ line, want string }{
		{"config", "Data directory:  " + home + "/.ztm\nDefault mesh:    (none)\n"},
		{"config --mesh demo", ""},
		{"config", "Data directory:  " + home + "/.ztm\nDefault mesh:    demo\n"},
		{"config --data /var/lib/ztm", ""},
		{"config -o json", "{\n  \"data\": \"/var/lib/ztm\",\n  \"mesh\": \"demo\"\n}\n"},
		{"config --mesh= --data=", ""},
		{"config", "Data directory:  " + home + "/.ztm\nDefault mesh:    (none)\n"},
	} {
		stdout, stderr, status := s.run(tt.line)
		if status != 0 || stdout != tt.want {
			t.Errorf("%s: status %d, %q, printed %q; want %q", tt.line, status, stderr, stdout, tt.want)
		}
	}
	if fi, err := os.Stat(filepath.Join(home, ".ztm.conf")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("settings: %v, %v", fi, err)
	}
}

func TestSettingsBehindALinkStayThere(t *testing.T) {
	home, dotfiles := t.TempDir(), t.TempDir()
	real, link := filepath.Join(dotfiles, "ztm.conf"), filepath.Join(home, ".ztm.conf")
	if err := os.WriteFile(real, []byte(`{"data": "/s"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	s := newShell(map[string]string{"HOME": home})
	if _, stderr, status := s.run("config --mesh demo"); status != 0 {
		t.Fatal(stderr)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is gone: %v, %v", fi, err)
	}
	if b, err := os.ReadFile(real); err != nil || !strings.Contains(string(b), "demo") || !strings.Contains(string(b), "/s") {
		t.Errorf("settings: %s, %v", b, err)
	}
}

func TestBrokenSettingsAreNamed(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, ".ztm.conf")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newShell(map[string]string{"HOME": home})
	for _, line := range []string{"config", "config --mesh x"} {
		_, stderr, status := s.run(line)
		if want := "hint: repair or remove the file\n"; status != 1 || !strings.Contains(stderr, path) || !strings.HasSuffix(stderr, want) {
			t.Errorf("%s: status %d, %q", line, status, stderr)
		}
	}
	if _, stderr, status := s.run("help"); status != 0 {
		t.Errorf("help: %s", stderr)
	}
}

func TestHelpIsThereForEveryCommand(t *testing.T) {
	s := newShell(map[string]string{"HOME": t.TempDir()})
	for _, line := range []string{"", "help", "--help", "help config", "config -h", "ep x config --help"} {
		if stdout, stderr, status := s.run(line); status != 0 || !strings.HasPrefix(stdout, "Usage: ztm ") {
			t.Errorf("%q: status %d, %q, %q", line, status, stdout, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	s := newShell(map[string]string{"HOME": t.TempDir()})
	s.cfg.Version = api.Version{Tag: "v1.2.3", Go: "go1", OS: "linux", Arch: "mipsle", Features: []string{"tunnel", "proxy"}}
	stdout, _, _ := s.run("version")
	if diff := cmp.Diff("Tag:       v1.2.3\nCommit:    -\nDate:      -\nGo:        go1\nPlatform:  linux/mipsle\nFeatures:  tunnel, proxy\n", stdout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	stdout, _, _ = s.run("version --json")
	var v api.Version
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.cfg.Version, v); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCompletionOffersWhatTheAgentKnows(t *testing.T) {
	evil := []string{"$(reboot)", "`reboot`", "a b", "a;b", "x\ty", "-rf", "a'b", "*", "~root", "\x1b[2J", "a\nb"}
	answers := apitest.Demo()
	var eps []apps.Endpoint
	for _, name := range append(evil, "nas", "nas", "straße") {
		eps = append(eps, apps.Endpoint{Name: name, Offers: []string{"tunnel/tcp/web", "proxy/x", "tunnel/tcp/$(reboot)"}})
	}
	answers["GET "+api.EndpointsPath("demo", apps.Filter{})] = eps
	a := apitest.New(t, answers)
	s := newShell(map[string]string{"HOME": a.Dir, "ZTM_DATA": a.Dir})
	s.Know(apps.Commands{Values: map[string]func(context.Context) []string{
		"tcp/NAME": func(context.Context) []string { return []string{"tcp/web", "tcp/$(reboot)", "tcp/db", "tcp/web"} },
	}})
	takes := &cli.Command{
		Name: "take", ArgsUsage: "EP", Action: func(*cli.Context) error { return nil },
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "mesh", Usage: "`MESH`"}, &cli.StringSliceFlag{Name: "user", Usage: "`USER`"},
			&cli.StringFlag{Name: "tunnel", Usage: "`tcp/NAME`"}, &cli.StringFlag{Name: "file", Usage: "`FILE`"},
			&cli.StringFlag{Name: "dir", Usage: "`DIR`"}, &cli.StringFlag{Name: "other", Usage: "`OTHER`"},
			&cli.StringFlag{Name: "src", Usage: "`SRC`"}, &cli.StringFlag{Name: "to", Usage: "`TO`"},
		},
	}
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"take", ""}, "nas straße"},
		{[]string{"take", "n"}, "nas"},
		{[]string{"ep", ""}, "nas straße"},
		{[]string{"ep", "demo/s"}, "demo/straße"},
		{[]string{"ep", "other/"}, ""},
		{[]string{"take", "--mesh", ""}, "demo"},
		{[]string{"take", "--mesh=d"}, "--mesh=demo"},
		{[]string{"take", "--user", "r"}, "root"},
		{[]string{"take", "--tunnel", ""}, "tcp/db tcp/web"},
		{[]string{"take", "--file", ""}, ":files"},
		{[]string{"take", "--dir", ""}, ":dirs"},
		{[]string{"take", "--src", ""}, ":files"},
		{[]string{"take", "--to", "n"}, ":files nas:"},
		{[]string{"take", "--to", "nas:"}, "nas:"},
		{[]string{"take", "--other", ""}, ""},
		{[]string{"--data", "/nonexistent", "take", ""}, ""},
		{[]string{"mesh", "nowhere", "take", ""}, ""},
	} {
		t.Run(strings.Join(tt.words, " "), func(t *testing.T) {
			status := s.Run(context.Background(), append([]string{"__complete", "--"}, tt.words...), []*cli.Command{takes})
			got := strings.Join(strings.Fields(s.stdout.String()), " ")
			if status != 0 || got != tt.want || s.stderr.Len() > 0 {
				t.Errorf("status %d, printed %q, %q; want %q", status, got, s.stderr.String(), tt.want)
			}
			s.stdout.Reset()
		})
	}
}

func TestAnEmptyWordCanBeCompletedByFlag(t *testing.T) {
	s := newShell(map[string]string{"HOME": t.TempDir()})
	stdout, _, _ := s.run("__complete -e -- completion")
	if got := strings.Join(strings.Fields(stdout), " "); got != "bash zsh fish powershell" {
		t.Errorf("printed %q", got)
	}
}

func TestCompletionScripts(t *testing.T) {
	s := newShell(map[string]string{"HOME": t.TempDir()})
	for _, name := range []string{"bash", "zsh", "fish", "powershell"} {
		if stdout, stderr, status := s.run("completion " + name); status != 0 || !strings.Contains(stdout, "ztm __complete") && !strings.Contains(stdout, `"$ztm" __complete`) {
			t.Errorf("%s: status %d, %q", name, status, stderr)
		}
	}
	if _, stderr, status := s.run("completion tcsh"); status != 2 {
		t.Errorf("tcsh: status %d, %q", status, stderr)
	}
}
