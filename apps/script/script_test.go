//go:build linux && !ztm_router && !ztm_omit_js

package script

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/appstest"
)

// TestMain makes the test binary the engine where the app starts it as such: ARGV[0] script js --
// FILE ...
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == name && os.Args[2] == engineName {
		os.Exit(engineMain(os.Args[1:]))
	}
	os.Exit(appstest.Run(m))
}

func engineMain(args []string) int {
	app := &cli.App{Commands: []*cli.Command{commands(&appstest.Console{})}, HideHelp: true, ExitErrHandler: func(*cli.Context, error) {}}
	err := app.Run(append([]string{"ztm"}, args...))
	var exit *apps.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.Status
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// mesh is endpoints of alice with the script app: office first; and one of bob, without.
type mesh struct {
	eps   []*appstest.Host
	phone *appstest.Host
	log   *appstest.Buffer // of the office
}

func newMesh(t *testing.T, names ...string) *mesh {
	var n appstest.Net
	m := &mesh{phone: n.Join("phone", "bob"), log: &appstest.Buffer{}}
	for _, name := range append([]string{"office"}, names...) {
		h := n.Join(name, "alice")
		if name == "office" {
			h.Log = m.log
		}
		h.Start(t, "script", New)
		m.eps = append(m.eps, h)
	}
	return m
}

// at runs `ztm ep office script` at an endpoint.
func (m *mesh) at(h *appstest.Host, stdin string, args ...string) appstest.Result {
	c := &appstest.Console{Host: h, At: m.eps[0], In: strings.NewReader(stdin), JSON: slices.Contains(args, "-o=json")}
	return c.Capture(func() error { return command(c, args...) })
}

// run runs `ztm ep office script` at the office itself.
func (m *mesh) run(stdin string, args ...string) appstest.Result {
	return m.at(m.eps[0], stdin, args...)
}

// command runs a command line that is already in the order that the flag parser wants.
func command(c apps.Console, args ...string) error { return appstest.RunCommand(commands(c), args...) }

// file writes a script.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(p + " is missing")
		}
	}
}

func TestScriptIsLikeHere(t *testing.T) {
	m := newMesh(t)
	tests := []struct {
		name, program string // that must be there
		file, script  string
		options       []string
		args          []string
		want          appstest.Result
	}{
		{name: "sh by its #! line", file: "x", script: "#!/bin/sh\necho \"$1-$#\"; cat; echo no >&2; exit 7\n",
			args: []string{"a b", ""}, want: appstest.Result{Out: "a b-2\nin\x00\xff", Err: "no\n", Status: 7}},
		{name: "sh if nothing says", file: "x", script: "cat; exit 3", want: appstest.Result{Out: "in\x00\xff", Status: 3}},
		{name: "bash through env", program: "bash", file: "x.sh", script: "#!/usr/bin/env -S A=b bash -e\nfalse\necho not reached",
			want: appstest.Result{Status: 1}},
		{name: "a path that is elsewhere", program: "bash", file: "x", script: "#!/opt/nowhere/bash\necho ${BASH_VERSION:+yes}",
			want: appstest.Result{Out: "yes\n"}},
		{name: "python by its ending", program: "python3", file: "x.py",
			script: "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())\nprint(sys.argv[1], 'ü', file=sys.stderr)\nsys.exit(130)\n",
			args:   []string{"-x"}, want: appstest.Result{Out: "in\x00\xff", Err: "-x ü\n", Status: 130}},
		{name: "perl by option", program: "perl", file: "x.txt", script: "print <STDIN>; kill 'KILL', $$", options: []string{"--with=perl"},
			want: appstest.Result{Status: 137}},
		{name: "node", program: "node", file: "x.js", script: "console.log(process.argv[2])", options: []string{"--with=node"},
			args: []string{"é"}, want: appstest.Result{Out: "é\n"}},
		{name: "an interpreter of another name", file: "x", script: "hello\n", options: []string{"--with=cat"}, want: appstest.Result{Out: "hello\n"}},
		{name: "arguments and names that are no characters", file: "caf\xe9.sh", script: `printf '%s|' "$1" "$ZTM_SCRIPT" "$LC_TIME"`, args: []string{"caf\xe9.txt"},
			want: appstest.Result{Out: "caf\xe9.txt|caf\xe9.sh|\xe9|"}},
		{name: "line ends of Windows", file: "x.sh", script: "#!/bin/sh\r\nset -e\r\nif true; then\r\n\techo \"$1\"\r\nfi\r\nexit 3\r", args: []string{"a"},
			want: appstest.Result{Out: "a\n", Status: 3}},
		{name: "some line ends of Windows stay", file: "x.sh", script: "printf '%s|' 'a\r\nb'\n", want: appstest.Result{Out: "a\r\nb|"}},
		{name: "a byte-order mark", file: "x", script: "\ufeff#!/bin/sh\necho a\n", want: appstest.Result{Out: "a\n"}},
		{name: "a script that hands on its name", file: "x",
			script: "[ -z \"$again\" ] || { echo $again; exit 5; }\nagain=yes exec sh -c 'exec 3<&-; exec sh \"$1\"' sh \"$0\"\n",
			want:   appstest.Result{Out: "yes\n", Status: 5}},
		{name: "a script that starts itself", file: "x", script: "#!/bin/sh\n[ -z \"$1\" ] || exit 6\nexec \"$0\" again\n", want: appstest.Result{Status: 6}},
		{name: "a signal", file: "x", script: "kill -TERM $$", want: appstest.Result{Status: 143}},
		{name: "too late", file: "x", script: "sleep 1000", options: []string{"--timeout=100ms"},
			want: appstest.Result{Status: 124, Err: "ztm: office ended this: it took longer than 100ms\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.program != "" {
				need(t, tt.program)
			}
			t.Setenv("LC_ALL", "C.UTF-8")
			t.Setenv("LC_TIME", "\xe9")
			got := m.run("in\x00\xff", append(append(tt.options, "--", file(t, tt.file, tt.script)), tt.args...)...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("script (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScriptComesFromStdin(t *testing.T) {
	m := newMesh(t)
	if diff := cmp.Diff(appstest.Result{Out: "a\n"}, m.run("echo $1; cat", "--", "-", "a")); diff != "" {
		t.Errorf("script (-want +got):\n%s", diff)
	}
}

func TestMissingInterpreterIsNamedWithThoseThatAreThere(t *testing.T) {
	m := newMesh(t)
	for _, script := range []string{"#!/usr/bin/env no-such\n", "#!/opt/no-such -x\n"} {
		r := m.run("", "--", file(t, "x", script))
		want := regexp.MustCompile(`^ztm: office has no interpreter "(/opt/)?no-such"; it has: js, sh, .*\n$`)
		if r.Status != 127 || !want.MatchString(r.Err) {
			t.Errorf("got %+v", r)
		}
	}
}

func TestOutsiderIsRefusedBeforeAnythingStarts(t *testing.T) {
	m := newMesh(t)
	mark := filepath.Join(t.TempDir(), "mark")
	script := file(t, "x", "touch "+mark)
	want := appstest.Result{Failure: "not allowed (ref 000000): ask the owner of office"}
	if diff := cmp.Diff(want, m.at(m.phone, "", "--", script)); diff != "" {
		t.Errorf("refusal (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the script of an outsider was run")
	}
	if r := m.run("", "config", "--add-user=bob"); r.Failure != "" || !strings.Contains(r.Out, "bob") {
		t.Fatalf("config: %+v", r)
	}
	if r := m.at(m.phone, "", "--", script); r != (appstest.Result{}) {
		t.Errorf("the guest got %+v", r)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the script of the guest was not run: %v", err)
	}
	if out := m.run("", "config").Out; !strings.Contains(out, "bob") {
		t.Errorf("config:\n%s", out)
	}
}

func TestRunAsBecomesTheAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another account needs root")
	}
	need(t, "python3")
	m := newMesh(t)
	m.run("", "config", "--run-as=nobody")
	if r := m.run("", "--", file(t, "x.sh", "echo $(id -u) $(id -G) $HOME $ZTM_SCRIPT")); r.Out != "65534 65534 /nonexistent x.sh\n" {
		t.Errorf("sh: %+v", r)
	}
	if r := m.run("", "--with=/usr/bin/perl", "--", file(t, "x", `print "$<\n"`)); r.Out != "65534\n" {
		t.Errorf("perl: %+v", r)
	}
	// The test binary is where only root can reach it; the engine is started from the file that
	// runs.
	if r := m.run("", "--", file(t, "x.js", "print(exec('id', ['-u']).stdout)")); r.Out != "65534\n\n" {
		t.Errorf("js: %+v", r)
	}
}

func TestScriptNeedsNoPlaceForFiles(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	m := newMesh(t)
	if diff := cmp.Diff(appstest.Result{Out: "yes\n"}, m.run("", "--", file(t, "x", `[ -n "$0" ] && echo yes`))); diff != "" {
		t.Errorf("script (-want +got):\n%s", diff)
	}
}

func TestNothingOfTheScriptIsLeft(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	m := newMesh(t)
	listing := m.run("", "--", file(t, "x", "ls "+tmp+"; grep -cs a-uniqu[e]-text /proc/[0-9]*/cmdline | grep -v :0 # a-unique-text"))
	if listing != (appstest.Result{Status: 1}) {
		t.Errorf("while it ran: %+v", listing)
	}
	given, err := give([]byte("x"), interpreter{ending: ".ps1"}, nobody(t))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(given.path); err != nil || st.Mode().Perm() != 0o600 || filepath.Ext(given.path) != ".ps1" {
		t.Errorf("the file has mode %v, %v", st.Mode(), err)
	}
	given.remove()
	dead := filepath.Join(tmp, private+"999999999-1")
	mine := filepath.Join(tmp, fmt.Sprintf("%s%d-1", private, os.Getpid()))
	for _, dir := range []string{dead, mine} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 || left[0].Name() != filepath.Base(mine) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// interrupt sends this process the signal that Ctrl-C is, when a text was written. The command
// under test catches it.
func interrupt(text string) *appstest.Watched {
	return &appstest.Watched{Text: text, Do: func() { syscall.Kill(os.Getpid(), syscall.SIGINT) }}
}

func TestCtrlCInterruptsTheGroupThere(t *testing.T) {
	m := newMesh(t, "ep-2")
	script := file(t, "x", "#!/bin/bash\nsleep 1234567 & echo ready; wait")
	need(t, "bash")
	out := interrupt("ready")
	err := command(&appstest.Console{Host: m.eps[0], Out: out}, "--", script)
	var exit *apps.ExitError
	if !errors.As(err, &exit) || exit.Status != 130 {
		t.Errorf("got %v", err)
	}
	// With many, each is interrupted, and the rest is not started.
	out = interrupt("ready")
	var many bytes.Buffer
	err = command(&appstest.Console{Host: m.eps[0], Out: io.MultiWriter(out, &many)}, "--parallel=1", "--ep=office", "--ep=ep-2", "--", script)
	if !errors.As(err, &exit) || exit.Status != 1 || !regexp.MustCompile(`(?s)office +130 \(INT\).*ep-2 .*not started`).MatchString(many.String()) {
		t.Errorf("got %v\n%s", err, &many)
	}
}

func TestScriptTreeIsGoneWhenTheFlowIsLost(t *testing.T) {
	appstest.Long(t)
	m := newMesh(t)
	script := file(t, "x", "trap '' HUP\nsleep 7654321 &\nsleep 7654322 | cat &\necho ready\nwait")
	out := &appstest.Watched{Text: "ready", Do: func() { m.eps[0].SetOnline(false) }}
	var errs appstest.Buffer
	err := command(&appstest.Console{Host: m.phone, At: m.eps[0], Out: out, Err: &errs}, "--", script)
	if err == nil {
		t.Fatal("an outsider ran a script")
	}
	m.run("", "config", "--add-user=bob")
	err = command(&appstest.Console{Host: m.phone, At: m.eps[0], Out: out, Err: &errs}, "--", script)
	var exit *apps.ExitError
	if !errors.As(err, &exit) || exit.Status != 255 || !strings.Contains(errs.String(), "the connection to office was lost") {
		t.Errorf("got %v, %q", err, errs.String())
	}
	appstest.Eventually(t, "no process of the script", func() bool {
		out, _ := exec.Command("pgrep", "-f", "sleep 765432").Output()
		return len(out) == 0
	})
}

func TestHugeScriptAndInputAreRefused(t *testing.T) {
	m := newMesh(t)
	if r := m.run("", "--", file(t, "x", strings.Repeat("#", maxSource+1))); !strings.Contains(r.Failure, "has more than 8388608 bytes") {
		t.Errorf("a huge script: %+v", r)
	}
	if r := m.run("", "--with=wc", "--", file(t, "x", strings.Repeat("#", maxSource))); !strings.Contains(r.Out, "8388608") {
		t.Errorf("a script of the largest size: %+v", r)
	}
	big := strings.Repeat("x", maxStdin+1)
	if r := m.run(big, "-o=json", "--", file(t, "x", "cat")); !strings.Contains(r.Failure, "stdin has more than") {
		t.Errorf("huge stdin for many: %+v", r)
	}
}

func TestWrongUsage(t *testing.T) {
	m := newMesh(t)
	for _, args := range [][]string{{}, {"--parallel=0", "--", "x"}, {"--timeout=-1s", "--", "x"}, {"config", "surplus"}} {
		var wrong *apps.UsageError
		if err := command(&appstest.Console{Host: m.eps[0]}, args...); !errors.As(err, &wrong) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if r := m.run("", "--", "/no/such/file"); !strings.Contains(r.Failure, "no such file") {
		t.Errorf("got %+v", r)
	}
}
