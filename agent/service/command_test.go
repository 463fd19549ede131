package service

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/apps"
)

// screen is a console of which the commands use the output alone.
type screen struct {
	apps.Console
	out, err bytes.Buffer
}

func (s *screen) Stdout() io.Writer { return &s.out }
func (s *screen) Stderr() io.Writer { return &s.err }

func (s *screen) Print(v any, t *apps.Table) error {
	for _, r := range t.Rows {
		s.out.WriteString(strings.Join(r, " ") + "\n")
	}
	return nil
}

// ztm runs a command line of a program that has these commands and these roles.
func ztm(t *testing.T, data string, env map[string]string, args ...string) (string, error) {
	t.Helper()
	var s screen
	app := &cli.App{Name: "ztm", Writer: &s.out, ErrWriter: &s.err, HideHelp: true, DisableSliceFlagSeparator: true, ExitErrHandler: func(*cli.Context, error) {}}
	app.Commands = Commands(Host{
		Console: &s, Getenv: func(name string) string { return env[name] }, Data: func() (string, error) { return data, nil },
		Runs: func(role, data string) bool { return data == "/runs/"+role },
		Roles: []*cli.Command{
			{Name: "hub", Flags: []cli.Flag{
				&cli.StringFlag{Name: "data", Usage: "`DIR`"}, &cli.StringFlag{Name: "permit", Usage: "`FILE`"},
				&cli.StringSliceFlag{Name: "names", Usage: "`HOST:PORT`"}, &cli.BoolFlag{Name: "keep-ca"}, &cli.IntFlag{Name: "max-agents", Value: 10},
			}},
			{Name: "agent", Flags: []cli.Flag{&cli.StringFlag{Name: "data", Usage: "`DIR`"}, &cli.StringFlag{Name: "proxy", Usage: "`URL`"}}},
		},
	})
	err := app.RunContext(t.Context(), append([]string{"ztm"}, args...))
	return s.out.String(), err
}

func TestTheOptionsOfRunAreThoseOfTheService(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"none", `run" "agent" "--data=/data"`, []string{"start", "agent"}},
		{"paths become absolute", `"--data=` + here + `/x" "--permit=` + here + `/root.json"`, []string{"start", "hub", "--data", "x", "--permit", "root.json"}},
		{"lists, numbers and switches", `"--names=a:1" "--names=b:2" "--keep-ca=true" "--max-agents=5"`,
			[]string{"start", "hub", "--names", "a:1", "--names", "b:2", "--keep-ca", "--max-agents", "5"}},
		{"an account", "User=nobody\n", []string{"start", "agent", "--run-as", "nobody"}},
		{"of a user", "# /home/me/.config/systemd/user/ztm-agent.service", []string{"start", "agent", "--user"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := ztm(t, "/data", map[string]string{"HOME": "/home/me"}, append(tt.args, "--system", "systemd", "--print")...)
			if err != nil || !strings.Contains(out, tt.want) {
				t.Errorf("%v\n%s\nwant %s", err, out, tt.want)
			}
		})
	}
}

func TestWhatNoServiceCanHaveIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"a password", "everybody could read", []string{"--system", "systemd", "--proxy", "http://me:secret@proxy:1"}},
		{"a manager that nobody knows", "unknown service manager", []string{"--system", "upstart"}},
		{"services of users where there are none", "procd has no services of users", []string{"--system", "procd", "--user"}},
		{"another account for one's own service", "leave out --run-as", []string{"--system", "systemd", "--user", "--run-as", "nobody"}},
		{"a line end", "cannot be in the file of a service", []string{"--system", "systemd", "--data", "a\nb"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := ztm(t, "/data", nil, append([]string{"start", "agent", "--print"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error()+out, "secret") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if _, err := ztm(t, "/data", nil, "start", "hub", "--print", "--system", "systemd", "--data", "/x", "--permit", "-"); err == nil || !strings.Contains(err.Error(), "no standard input") {
		t.Errorf("a permit from standard input: %v", err)
	}
}

func TestAPasswordHasItsPlaceInTheDataDirectory(t *testing.T) {
	for _, sys := range Systems() {
		for _, proxy := range []string{"http://me:secret@proxy:1", "http://me:sec%ret@proxy:1", "me:secret@proxy:1"} {
			_, err := ztm(t, "/data", nil, "start", "agent", "--print", "--system", sys.Name, "--proxy", proxy)
			var hint *apps.HintError
			if !errors.As(err, &hint) || !strings.Contains(hint.Hint, "'environment'") {
				t.Errorf("%s, %s: %v", sys.Name, proxy, err)
			}
		}
	}
}

func TestWhoIsNotRootIsToldTheCommand(t *testing.T) {
	for system, want := range map[string]string{
		"systemd": "use: sudo ztm start agent ..., or: ztm start agent --user ... for a service of your own",
		"procd":   "use: sudo ztm start agent ...",
	} {
		sys, err := SystemNamed(system)
		if err != nil {
			t.Fatal(err)
		}
		var hint *apps.HintError
		if err := forRoot(sys, "start", "agent"); !errors.As(err, &hint) || hint.Hint != want {
			t.Errorf("%s: %v, %+v", system, err, hint)
		}
	}
}

func TestTheStatusOfWhatRunsInTheForeground(t *testing.T) {
	env := map[string]string{"HOME": t.TempDir()}
	out, err := ztm(t, "/runs/agent", env, "status", "agent", "--system", "systemd", "--user")
	if err != nil || !strings.Contains(out, "State: foreground: ") || !strings.Contains(out, "Data: /runs/agent") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := ztm(t, "/runs/agent", env, "status", "hub", "--system", "systemd", "--user"); err == nil {
		t.Errorf("the hub does not run there:\n%s", out)
	}
}

func TestTheStatusOfWhatIsNotThere(t *testing.T) {
	out, err := ztm(t, "/data", map[string]string{"HOME": t.TempDir()}, "status", "agent", "--system", "systemd", "--user")
	var exit *apps.ExitError
	if !errors.As(err, &exit) || exit.Status != 1 || !strings.Contains(out, "State: not installed") {
		t.Errorf("%v\n%s", err, out)
	}
	_, err = ztm(t, "/data", map[string]string{"HOME": t.TempDir()}, "stop", "agent", "--system", "systemd", "--user", "--uninstall")
	if err == nil || !strings.Contains(err.Error(), filepath.FromSlash(".config/systemd/user/ztm-agent.service")) {
		t.Errorf("%v", err)
	}
}
