package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/agent/api"
	"ztm/agent/api/apitest"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/external"
)

// asProgram makes the test binary the program: tests run it under the names that users call it by.
const asProgram = "ZTM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if status, is := external.Applet(os.Args, os.Stdin); is {
		os.Exit(status)
	}
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(atHome(m))
}

// atHome runs the tests with a home directory of their own: what somebody has set in theirs is not to count, and theirs is to stay as it is.
func atHome(m *testing.M) int {
	names := []string{"GOENV", "GOCACHE", "GOPATH", "GOMODCACHE"} // they are in the home directory, and tests build programs
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		panic(err)
	}
	for i, value := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		os.Setenv(names[i], value)
	}
	home, err := os.MkdirTemp("", "home")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(home)
	os.Setenv("HOME", home)
	return appstest.Run(m)
}

// program returns a directory in which the test binary is "ztm".
func program(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(exe, filepath.Join(dir, "ztm")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command is a program that runs with HOME, ZTM_DATA and the first place in PATH set.
func command(t *testing.T, bin, data, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = []string{asProgram + "=1", "PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + data, "ZTM_DATA=" + data, "TERM=xterm", "LC_ALL=C.UTF-8"}
	return cmd
}

func TestTheNameOfTheProgramIsACommand(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"ztm", "get", "ep"}, "get ep"},
		{[]string{"/usr/bin/ztm"}, ""},
		{[]string{"./ztm-hub", "--names", "x"}, "run hub --names x"},
		{[]string{"/usr/bin/ztm-agent"}, "run agent"},
		{[]string{"ztm-agent.exe"}, "run agent"},
		{[]string{"ZTM-Agent.EXE", "-d", "x"}, "run agent -d x"},
		{[]string{"ZTM-AGENT", "x"}, "run agent x"},
		{[]string{"ztm-1.2", "x"}, "x"},
		{[]string{}, ""},
	} {
		if got := strings.Join(words(tt.args), " "); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestLinksAreWhatTheyAreCalled(t *testing.T) {
	bin, links := program(t), t.TempDir()
	if out, err := command(t, bin, t.TempDir(), filepath.Join(bin, "ztm"), "install-links", links).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"ztm-hub": "Usage: ztm run hub", "ztm-agent": "Usage: ztm run agent"} {
		out, err := command(t, bin, t.TempDir(), filepath.Join(links, name), "--help").Output()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

func TestExitStatus(t *testing.T) {
	bin := program(t)
	for _, tt := range []struct {
		args   string
		status int
		stderr string
	}{
		{"version", 0, ""},
		{"--version", 0, ""},
		{"--version --json", 0, ""},
		{"tunle get", 2, `ztm: unknown command "tunle"` + "\n" + `hint: did you mean "tunnel"?` + "\n"},
		{"ep nas leave demo", 2, "ztm: "},
		{"help", 0, ""},
		{"get ep", 1, "ztm: cannot reach the agent at "},
		{"gte ep", 2, `ztm: unknown command "gte"` + "\n" + `hint: did you mean "get"?` + "\n"},
		{"run hub --data", 2, "ztm: option --data needs a value\n"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			cmd := command(t, bin, t.TempDir(), filepath.Join(bin, "ztm"), strings.Fields(tt.args)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tt.status || !strings.HasPrefix(stderr.String(), tt.stderr) {
				t.Errorf("status %d, stderr %q; want %d, %q", got, stderr.String(), tt.status, tt.stderr)
			}
			if tt.status != 0 && stdout.Len() > 0 {
				t.Errorf("a failure wrote %q to standard output", stdout.String())
			}
		})
	}
}

// TestTheTypicalSessionIsUnderstood runs the commands of a ZTM user's session as typed, but for
// those that become a daemon. Without an agent all of them fail for that reason and for no other.
func TestTheTypicalSessionIsUnderstood(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	for name, content := range map[string]string{"root.json": "{}", "bob.json": "{}", "bob.pub": "-----BEGIN PUBLIC KEY-----\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		"ztm join demo --as ep-root --permit root.json",
		"ztm identity",
		"ztm invite bob --identity bob.pub --permit bob.json",
		"ztm join demo --as ep-bob --permit bob.json",
		"ztm tunnel open outbound tcp/web --targets 127.0.0.1:8080 --users root alice",
		"ztm tunnel open inbound  tcp/web --listen 18080",
		"ztm ep ep-bob tunnel open outbound tcp/web --targets 127.0.0.1:8080 --users root alice",
		"ztm terminal config --add-user alice",
		"ztm terminal open ep-bob",
		"ztm proxy config --add-target 0.0.0.0/0 *",
		"ztm proxy config --set-listen 127.0.0.1:1080",
		"ztm tunnel get outbound",
		"ztm tunnel describe in tcp/web",
		"ztm tunnel close out tcp/web",
		"ztm get tunnel",
		"ztm get mesh",
		"ztm get ep",
		"ztm describe hub 127.0.0.1:28880",
		"ztm describe ep ep-bob",
		"ztm ping ep ep-bob",
		"ztm stats ep",
		"ztm log ep",
		"ztm label --add env:prod web",
		"ztm mesh demo get ep",
		"ztm ep demo/ep-bob label",
		"ztm evict bob",
		"ztm leave demo",
	} {
		t.Run(line, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(strings.Fields(line), strings.NewReader(""), &stdout, &stderr)
			if status != 1 || !strings.HasPrefix(stderr.String(), "ztm: cannot reach the agent at ") {
				t.Errorf("status %d, %s%s", status, stdout.String(), stderr.String())
			}
		})
	}
}

func TestVersionIsForPeopleAndPrograms(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var text, out bytes.Buffer
	if status := run([]string{"ztm", "version"}, nil, &text, io.Discard); status != 0 || !strings.HasPrefix(text.String(), "Tag: ") {
		t.Errorf("status %d, %s", status, text.String())
	}
	if status := run([]string{"ztm", "version", "--json"}, nil, &out, io.Discard); status != 0 {
		t.Fatal(out.String())
	}
	var v api.Version
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || v.Tag == "" || v.Go == "" || !slices.Contains(v.Features, "tunnel") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestEveryCommandHasHelp walks the whole tree: each command says how it is used and gives an
// example.
func TestEveryCommandHasHelp(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var walk func(path string)
	walk = func(path string) {
		var out, stderr bytes.Buffer
		if status := run(append([]string{"ztm"}, strings.Fields(path+" --help")...), nil, &out, &stderr); status != 0 {
			t.Errorf("%s: %s", path, stderr.String())
			return
		}
		text := out.String()
		if !strings.HasPrefix(text, "Usage: ztm ") {
			t.Errorf("%s: no usage:\n%s", path, text)
		}
		if strings.Contains(text, "\n\n\n") || strings.HasSuffix(text, "\n\n") {
			t.Errorf("ztm %s --help has empty lines that part nothing", path)
		}
		if path != "" && !regexp.MustCompile(`(?m)^Examples?:`).MatchString(text) {
			t.Errorf("%s: no example:\n%s", path, text)
		}
		for _, line := range strings.Split(text, "\n") {
			if n := len([]rune(line)); n > 120 {
				t.Errorf("%s: a line of %d columns: %s", path, n, line)
			}
		}
		_, commands, _ := strings.Cut(text, "\nCommands:\n")
		commands, _, _ = strings.Cut(commands, "\n\n")
		for line := range strings.Lines(commands) {
			if name := regexp.MustCompile(`^  ([a-z-]+)`).FindStringSubmatch(line); name != nil && !(path == "" && (name[1] == "mesh" || name[1] == "ep")) {
				walk(strings.TrimSpace(path + " " + name[1]))
			}
		}
	}
	walk("")
}

// hostile is a demo mesh in which somebody gave an endpoint a name that a shell would run.
func hostile(t *testing.T) *apitest.Agent {
	answers := apitest.Demo()
	key := "GET " + api.EndpointsPath("demo", apps.Filter{})
	eps := slices.Clone(answers[key].([]apps.Endpoint))
	for _, name := range []string{"$(touch ran)", "`touch ran`", "nasty;touch ran"} {
		eps = append(eps, apps.Endpoint{Name: name})
	}
	answers[key] = eps
	return apitest.New(t, answers)
}

// TestShellsComplete types command lines into real shells. What was typed and completed is printed
// by a stand-in for the program, which asks the program for what could come next.
func TestShellsComplete(t *testing.T) {
	appstest.Long(t)
	for _, shell := range []struct{ name, start, prepare string }{
		{"bash", "bash --norc --noprofile -i", "source <(ztm completion bash); PS1='READY''> '"},
		{"zsh", "zsh -f -i", "autoload -U compinit; compinit -u -D; source <(ztm completion zsh); PS1='READY''> '"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			for _, needed := range []string{shell.name, "script"} {
				if _, err := exec.LookPath(needed); err != nil {
					t.Skip("needs the program " + needed)
				}
			}
			a := hostile(t)
			work := t.TempDir()
			for _, name := range []string{"bob.json", "link"} {
				if err := os.WriteFile(filepath.Join(work, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			term := newTerminal(t, command(t, standIn(t), a.Dir, "script", "-qfec", shell.start, "/dev/null"), work)
			term.send(shell.prepare + "\r")
			term.expect("READY> ")
			for _, tt := range []struct{ typed, want string }{
				{"ztm ver\t", "version"},
				{"ztm ep demo/na\tpi\te\t", "ep demo/nas ping ep"},
				{"ztm tunnel o\tout\ttcp/w\t--us\troot b\t", "tunnel open outbound tcp/web --users root bob"},
				{"ztm tunnel open inbound tcp/x --exits=na\t", "tunnel open inbound tcp/x --exits=nas"},
				{"ztm join demo --permit bo\t", "join demo --permit bob.json"},
				{"ztm get hub -o ya\t", "get hub -o yaml"},
				{"ztm describe ep n\t", "describe ep nas"},
			} {
				term.send(tt.typed + "\r")
				term.expect("RAN[" + tt.want + "]")
				term.expect("READY> ")
			}
			if _, err := os.Stat(filepath.Join(work, "ran")); err == nil {
				t.Error("the shell ran the name of an endpoint")
			}
		})
	}
}

func TestFishCompletes(t *testing.T) {
	if _, err := exec.LookPath("fish"); err != nil {
		t.Skip("needs the program fish")
	}
	a, bin, work := hostile(t), program(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(work, "bob.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ typed, want string }{
		{"ztm ver", "version"},
		{"ztm ep ", "laptop nas phone"},
		{"ztm ep demo/na", "demo/nas"},
		{"ztm tunnel open inbound tcp/x --exits na", "nas"},
		{"ztm tunnel open inbound tcp/x --exits=na", "--exits=nas"},
		{"ztm join demo --permit bo", "bob.json"},
		{"ztm label --add a --rem", "--remove"},
	} {
		cmd := command(t, bin, a.Dir, "fish", "--no-config", "-c", `ztm completion fish | source; complete -C "$argv"`, tt.typed)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.typed, diff)
		}
	}
	if _, err := os.Stat(filepath.Join(work, "ran")); err == nil {
		t.Error("the shell ran the name of an endpoint")
	}
}

// standIn returns a directory with a "ztm" that completes as the program does, and otherwise prints
// its arguments.
func standIn(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\n__complete | completion) exec " + filepath.Join(program(t), "ztm") + ` "$@" ;;` + "\nesac\n" + `echo "RAN[$*]"` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "ztm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// typist is a person at a terminal.
type typist struct {
	t     *testing.T
	in    io.Writer
	lines chan string // what was printed, in pieces; closed at the end
	seen  string      // what was printed since the last match
}

// newTerminal starts a program that has a terminal of its own.
func newTerminal(t *testing.T, cmd *exec.Cmd, dir string) *typist {
	t.Helper()
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &typist{t: t, in: in, lines: make(chan string, 64)}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(term.lines)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			if n > 0 {
				term.lines <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		for range term.lines {
		}
		reading.Wait()
		cmd.Wait()
	})
	return term
}

func (term *typist) send(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.in, text); err != nil {
		term.t.Fatal(err)
	}
}

// expect waits until text was printed.
func (term *typist) expect(text string) {
	term.t.Helper()
	late := time.After(90 * time.Second)
	for {
		if _, rest, ok := strings.Cut(term.seen, text); ok {
			term.seen = rest
			return
		}
		select {
		case piece, ok := <-term.lines:
			if !ok {
				term.t.Fatalf("it ended after %q, waiting for %q", term.seen, text)
			}
			term.seen += piece
		case <-late:
			term.t.Fatalf("it printed %q, waiting for %q", term.seen, text)
		}
	}
}

func TestRunReadsTheEnvironmentFileOfItsDataDirectory(t *testing.T) {
	bin, data := program(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "environment"), []byte("HTTPS_PROXY='ftp://me:secret@proxy:1'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // an agent that has not read it runs until then
	defer cancel()
	cmd := command(t, bin, t.TempDir(), filepath.Join(bin, "ztm"), "run", "agent", "--data", data)
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "HTTPS_PROXY: proxy") || strings.Contains(string(out), "secret") {
		t.Errorf("%v: %s", err, out)
	}
}
