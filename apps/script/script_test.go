//go:build linux && !ztm_router && !ztm_omit_js

package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
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

func TestStrangerIsRefusedBeforeAnythingStarts(t *testing.T) {
	m := newMesh(t)
	mark := filepath.Join(t.TempDir(), "mark")
	script := file(t, "x", "touch "+mark)
	want := appstest.Result{Failure: `user "bob" may not run programs on office; its owner can allow it with: ztm ep office script config --add-user bob`}
	if diff := cmp.Diff(want, m.at(m.phone, "", "--", script)); diff != "" {
		t.Errorf("refusal (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the script of a stranger was run")
	}
	if line := regexp.MustCompile(`level=WARN msg="script refused" user=bob peer=[a-z2-7]{32} err=`); !line.MatchString(m.log.String()) {
		t.Errorf("no audit line in:\n%s", m.log)
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

func TestFiveEndpointsAtOnce(t *testing.T) {
	need(t, "python3")
	names := []string{"office", "ep-2", "ep-3", "ep-4", "ep-5"}
	m := newMesh(t, names[1:]...)
	scripts := map[string]string{
		"x.sh": "#!/bin/sh\nread line; echo \"$ZTM_USER $line $1\"; echo no >&2\n",
		"x.py": "import os, sys\nprint(os.environ['ZTM_USER'], input(), sys.argv[1])\nprint('no', file=sys.stderr)\n",
		"x.js": "print(env.ZTM_USER, readLine(), args[0])\nconsole.error('no')\n",
	}
	for name, text := range scripts {
		t.Run(name, func(t *testing.T) {
			var args []string
			for _, n := range names {
				args = append(args, "--ep="+n)
			}
			r := m.run("hello\n", append(args, "--", file(t, name, text), "arg")...)
			if r.Status != 0 || r.Failure != "" {
				t.Fatalf("got %+v", r)
			}
			for _, n := range names {
				if want := fmt.Sprintf("%-6s | alice hello arg\n", n); !strings.Contains(r.Out, want) {
					t.Errorf("%q is missing in:\n%s", want, r.Out)
				}
				if want := fmt.Sprintf("%-6s | no\n", n); !strings.Contains(r.Err, want) {
					t.Errorf("%q is missing in:\n%s", want, r.Err)
				}
				if !regexp.MustCompile(`(?m)^` + n + ` +0 +\d+\.\d`).MatchString(r.Out) {
					t.Errorf("%s is missing in the table:\n%s", n, r.Out)
				}
			}
		})
	}
}

func TestSomeOfManyFail(t *testing.T) {
	m := newMesh(t, "ep-2", "ep-3")
	m.eps[2].SetOnline(false)
	m.eps[0].SetLabels("router", "x")
	m.eps[1].SetLabels("router")
	m.eps[2].SetLabels("router")
	script := file(t, "x", "echo out; printf err >&2; [ $ZTM_ENDPOINT ] && ls -d /proc/self/fd/3 >/dev/null; exit $1")
	r := m.run("", "-o=json", "--label=router", "--ep=office", "--", script, "7")
	if r.Status != 1 {
		t.Errorf("got %+v", r)
	}
	var got []outcome
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Duration, got[i].ID = 0, ""
	}
	want := []outcome{
		{Endpoint: "office", Status: 7, Stdout: "out\n", Stderr: "err"},
		{Endpoint: "ep-2", Status: 7, Stdout: "out\n", Stderr: "err"},
		{Endpoint: "ep-3", Status: 1, Error: "endpoint " + string(m.eps[2].Self().ID) + " is offline"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if r := m.run("", "--label=nothing", "--", script); r.Failure != `no endpoint has the label "nothing"` {
		t.Errorf("got %+v", r)
	}
}

func TestNoMoreThanParallelRunAtOnce(t *testing.T) {
	m := newMesh(t, "ep-2", "ep-3", "ep-4", "ep-5")
	dir := t.TempDir()
	// Each leaves a mark while it runs, and counts the marks.
	script := file(t, "x", `mkdir $1/$$; sleep 0.1; ls $1 | wc -l; rmdir $1/$$`)
	r := m.run("", "--parallel=2", "--ep=office", "--ep=ep-2", "--ep=ep-3", "--ep=ep-4", "--ep=ep-5", "--", script, dir)
	counts := regexp.MustCompile(`\| (\d+)\n`).FindAllStringSubmatch(r.Out, -1)
	if len(counts) != 5 {
		t.Fatalf("got %+v", r)
	}
	for _, c := range counts {
		if c[1] != "1" && c[1] != "2" {
			t.Errorf("%s ran at once", c[1])
		}
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
	m := newMesh(t)
	script := file(t, "x", "trap '' HUP\nsleep 7654321 &\nsleep 7654322 | cat &\necho ready\nwait")
	out := &appstest.Watched{Text: "ready", Do: func() { m.eps[0].SetOnline(false) }}
	var errs appstest.Buffer
	err := command(&appstest.Console{Host: m.phone, At: m.eps[0], Out: out, Err: &errs}, "--", script)
	if err == nil {
		t.Fatal("a stranger ran a script")
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

func TestJavaScript(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/missing":
			http.NotFound(w, r)
		default:
			w.Header().Set("X-Test", "yes")
			json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "body": string(body), "h": r.Header.Get("H")})
		}
	}))
	defer server.Close()
	m := newMesh(t)
	dir := t.TempDir()
	tests := []struct {
		name, script string
		want         appstest.Result
	}{
		{"values are printed", `print("a", 1, true, null, undefined, [1, {b: "ü"}], new Error("e").message); console.log()`,
			appstest.Result{Out: "a 1 true null undefined [1,{\"b\":\"ü\"}] e\n\n"}},
		{"a #! line", "#!/usr/bin/env js\nprint('hi')", appstest.Result{Out: "hi\n"}},
		{"arguments", `print(args.length, args.join("|"))`, appstest.Result{Out: "3 x y|-z|a\xe9\xffb\n"}},
		{"the environment", `print(env.ZTM_USER, env.ZTM_SCRIPT_BRIDGE, Object.keys(env).includes("PATH"))`,
			appstest.Result{Out: "alice undefined true\n"}},
		{"lines of stdin", `print(readLine()); print(readLine(), readStdin().length, readLine())`, appstest.Result{Out: "one\n two 6 null\n"}},
		{"files", `const f = args[0] + "-" + "/f"; writeFile("` + dir + `/f", "grüße"); print(readFile("` + dir + `/f"), ` +
			`new Uint8Array(readFile("` + dir + `/f", "bytes")).length); writeFile("` + dir + `/g", new Uint8Array([1, 255]).buffer); ` +
			`print(readFile("` + dir + `/g", "bytes").byteLength)`, appstest.Result{Out: "grüße 7\n2\n"}},
		{"errors are thrown", `try { readFile("/no/such") } catch (e) { print(e.message) }`, appstest.Result{Out: "open /no/such: no such file or directory\n"}},
		{"bytes that are no characters", `const f = args[2]; writeFile("` + dir + `/" + f, f); print(exec("sh", ["-c", "ls -d " + f + "; echo $F"], ` +
			`{dir: "` + dir + `", env: {F: f}}).status, readFile("` + dir + `/" + f, "bytes").byteLength, f, "😀")`,
			appstest.Result{Out: "0 4 a\xe9\xffb 😀\n"}},
		{"exit", "try { exit(7) } finally { print('no') }\nprint('no')", appstest.Result{Status: 7}},
		{"programs", `const r = exec("sh", ["-c", "cat; echo $X >&2; pwd; exit 3"], {input: "in ", env: {X: "y"}, dir: "/"}); print(JSON.stringify(r))`,
			appstest.Result{Out: `{"status":3,"stdout":"in /\n","stderr":"y\n"}` + "\n"}},
		{"programs that die", `print(exec("sh", ["-c", "kill -9 $$"]).status)`, appstest.Result{Out: "137\n"}},
		{"programs that are missing", `try { exec("no-such") } catch (e) { print(e.message) }`, appstest.Result{Out: "exec: no-such: file does not exist\n"}},
		{"fetch", `const r = fetch("` + server.URL + `/moved"); print(r.status, r.ok, r.headers["x-test"], r.json().method); ` +
			`print(fetch("` + server.URL + `", {method: "post", body: "b", headers: {h: "1"}}).text()); print(fetch("` + server.URL + `/missing").ok)`,
			appstest.Result{Out: "200 true yes GET\n{\"body\":\"b\",\"h\":\"1\",\"method\":\"POST\"}\n\nfalse\n"}},
		{"async functions", `async function f() { return (await fetch("` + server.URL + `")).status } f().then(print)`, appstest.Result{Out: "200\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := m.run("one\n two\nthree\n", "--", file(t, "x.js", tt.script), "x y", "-z", "a\xe9\xffb")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("script (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJavaScriptErrorsSayWhere(t *testing.T) {
	m := newMesh(t)
	tests := []struct {
		name, script string
		want         []string
	}{
		{"errors of our own functions", "\nfunction f() { readFile('/no/such') }\nf()", []string{"Error: open /no/such: no such file or directory\n", "f x.js:2", "x.js:3"}},
		{"uncaught errors", "#!js\nfunction f() {\n  throw new Error('boom')\n}\nf()", []string{"boom", "x.js:3", "x.js:5"}},
		{"wrong syntax", "print(1)\nlet x = ;", []string{"SyntaxError", "x.js", "2:9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := m.run("", "--", file(t, "x.js", tt.script))
			if r.Status != 1 || r.Out != "" {
				t.Errorf("got %+v", r)
			}
			if strings.Contains(r.Err, "native") || strings.Contains(r.Err, "ztm/") {
				t.Errorf("it speaks of the engine: %s", r.Err)
			}
			for _, w := range tt.want {
				if strings.Count(r.Err, w) != 1 {
					t.Errorf("%q is not once in %q", w, r.Err)
				}
			}
		})
	}
}

func TestJavaScriptThatRunsForeverIsEnded(t *testing.T) {
	m := newMesh(t)
	script := file(t, "x.js", "print('ready'); while (true) {}")
	if r := m.run("", "--timeout=300ms", "--", script); r.Status != 124 {
		t.Errorf("got %+v", r)
	}
	out := interrupt("ready")
	err := command(&appstest.Console{Host: m.eps[0], Out: out}, "--", script)
	var exit *apps.ExitError
	if !errors.As(err, &exit) || exit.Status != 130 {
		t.Errorf("got %v", err)
	}
}

// tunnels is an app that stands for tunnels: "tcp/web" leads to a server.
type tunnels struct{ apps.App }

func (tunnels) Serve(_ context.Context, f apps.Flow) {
	if f.Path() != "tcp/web" {
		f.Refuse(answer.Errorf(answer.NotFound, "no tunnel %s", f.Path()))
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	done := make(chan struct{})
	served := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.(http.Flusher).Flush() // makes the answer one of unknown length
			fmt.Fprintf(w, "%s %s %s %d from %s", r.Method, r.Host, r.URL, len(body), f.Peer().User)
		}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(done)
			}
		},
	}
	served.Serve(&single{conn: conn})
	<-done
}

// single is a listener with one connection.
type single struct {
	conn net.Conn
	once sync.Once
}

func (s *single) Accept() (conn net.Conn, err error) {
	err = net.ErrClosed
	s.once.Do(func() { conn, err = s.conn, nil })
	return conn, err
}
func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }

func TestFetchGoesThroughTheMeshForTheOwner(t *testing.T) {
	m := newMesh(t, "nas")
	m.eps[1].New("tunnel", func(apps.Host) apps.App { return tunnels{} })
	script := file(t, "x.js", `
		for (const u of ["http://web.nas.ztm/a?b=c", "http://web.nas.ztm/", "http://db.nas.ztm/", "http://web.none.ztm/", "http://nas.ztm/", "https://web.nas.ztm/"]) {
			try { print(fetch(u, {method: "PUT", body: "x".repeat(70000)}).text()) } catch (e) { print(e.message.replace(/^fetch \S+: /, "")) }
		}
		print(exec("sh", ["-c", "ls /proc/self/fd | tr '\\n' ' '"]).stdout)`)
	got := m.run("", "--", script)
	want := appstest.Result{Out: "PUT web.nas.ztm /a?b=c 70000 from alice\nPUT web.nas.ztm / 70000 from alice\n" +
		"no tunnel tcp/db\nendpoint \"none\" not found\nnas.ztm is not of the form NAME.EP.ztm\n" +
		"the mesh takes http alone; it seals what it carries\n0 1 2 3 \n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("script (-want +got):\n%s", diff)
	}
	m.run("", "config", "--add-user=bob")
	r := m.at(m.phone, "", "--", file(t, "x.js", `try { fetch("http://web.nas.ztm/") } catch (e) { print(e.message) }`))
	if want := "fetch http://web.nas.ztm/: " + noBridge(bridgeGuest) + "\n"; r.Out != want {
		t.Errorf("a guest's script got %+v", r)
	}
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

func TestOutputInAResultIsWhatWasWritten(t *testing.T) {
	m := newMesh(t)
	r := m.run("", "-o=json", "--ep=office", "--", file(t, "x", `printf 'text ü'; printf '\377\000' >&2`))
	var got []outcome
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || len(got) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	if got[0].Stdout != "text ü" || got[0].Stderr != "\xff\x00" {
		t.Errorf("stdout %q, stderr %q", string(got[0].Stdout), string(got[0].Stderr))
	}
	if !strings.Contains(r.Out, `"text ü"`) {
		t.Errorf("text is no text in %s", r.Out)
	}
	c := capped{}
	c.Write([]byte(strings.Repeat("x", maxCapture-1) + "ü"))
	if b := c.bytes(); len(b) != maxCapture-1 {
		t.Errorf("the last of %d bytes is %q", len(b), string(b[len(b)-1:]))
	}
}

func TestProgramOutsideTheMeshSaysHowToGetIn(t *testing.T) {
	js, ok := engine()
	if !ok {
		t.Fatal("no engine")
	}
	var out, errs bytes.Buffer
	status, err := js.run(t.Context(), file(t, "x.js", `fetch("http://web.nas.ztm/")`), nil, strings.NewReader(""), &out, &errs)
	if err != nil || status != 1 || !strings.Contains(errs.String(), noBridge("")) || !strings.Contains(noBridge(""), "ztm script FILE") {
		t.Errorf("status %d, %v: %s", status, err, errs.String())
	}
}
