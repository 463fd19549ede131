//go:build linux

package terminal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
)

// asClient makes the test binary a command line in a mesh of its own; its value is the arguments,
// one a line.
const asClient = "ZTM_TEST_TERMINAL"

func client(args []string) int {
	m := newMesh()
	defer m.stop()
	err := run(&appstest.Console{Host: m.laptop, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, args...)
	var exit *apps.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.Status
	case err != nil:
		fmt.Fprintln(os.Stderr, "ztm:", err)
		return 1
	}
	return 0
}

// pane is a window of tmux, with a shell in it.
type pane struct {
	t      *testing.T
	socket string
}

func newPane(t *testing.T) *pane {
	t.Helper()
	for _, program := range []string{"tmux", "bash", "stty"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is missing")
		}
	}
	p := &pane{t, filepath.Join(t.TempDir(), "tmux")}
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "env", "PS1=here$ ", "TERM=screen", "LC_ALL=C.UTF-8",
		"bash", "--norc", "--noprofile")
	t.Cleanup(func() { exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	p.await("here$")
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", p.socket, "-u"}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// keys types keys by their tmux names; words that are none are typed as they are.
func (p *pane) keys(keys ...string) {
	p.t.Helper()
	p.tmux(append([]string{"send-keys"}, keys...)...)
}

func (p *pane) screen() string { return p.tmux("capture-pane", "-p") }

func (p *pane) await(text string) {
	p.t.Helper()
	appstest.Eventually(p.t, fmt.Sprintf("%q on the screen", text), func() bool { return strings.Contains(p.screen(), text) })
}

// open types the command line that opens a terminal.
func (p *pane) open(args ...string) {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.keys("clear; "+asClient+"=$'"+strings.Join(args, `\n`)+"' GOCOVERDIR=/tmp "+exe+"; echo status=$?", "Enter")
}

// shellThere is a shell with a prompt that is not the one here.
var shellThere = []string{"env", "PS1=there$ ", "bash", "--norc", "--noprofile"}

func TestShellInARealTerminal(t *testing.T) {
	p := newPane(t)
	before := p.sttyHere()
	p.open(append([]string{"open", "-t", "--", "office"}, shellThere...)...)
	p.await("there$")

	p.keys("stty size; tty; echo $TERM", "Enter")
	p.await("30 100")
	p.await("/dev/pts/")
	p.await("screen")

	p.tmux("resize-window", "-x", "91", "-y", "27")
	p.keys("clear; stty size", "Enter")
	p.await("27 91")

	p.keys("clear; sleep 1000 || echo interrupted", "Enter")
	appstest.Eventually(t, "sleep in the foreground", func() bool { return foreground("sleep\x001000") })
	p.keys("C-c", "")
	p.await("there$")
	p.keys("clear; sleep 2000", "Enter")
	appstest.Eventually(t, "sleep in the foreground", func() bool { return foreground("sleep\x002000") })
	p.keys("C-z", "")
	p.await("Stopped")
	p.keys("kill %1; wait; clear; sleep 3000", "Enter")
	appstest.Eventually(t, "sleep in the foreground", func() bool { return foreground("sleep\x003000") })
	p.keys(`C-\`)
	p.await("Quit")

	p.keys("clear; echo Grüße, 世界 🙂 | rev", "Enter")
	p.await("🙂 界世 ,eßürG")

	p.keys("exit 7", "Enter")
	p.await("status=7")
	if after := p.sttyHere(); after != before {
		t.Errorf("the terminal was\n%sand is\n%s", before, after)
	}
}

// foreground reports whether a process with these arguments runs.
func foreground(args string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), args) {
			return true
		}
	}
	return false
}

// sttyHere returns the settings of the pane's terminal, without its size.
func (p *pane) sttyHere() string {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "stty")
	p.keys("clear; stty -a > "+file+"; echo stty-$((1+1))", "Enter")
	p.await("stty-2")
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	_, settings, _ := strings.Cut(string(b), "\n")
	return settings
}

func TestEscapeLeavesADeadSession(t *testing.T) {
	p := newPane(t)
	before := p.sttyHere()
	p.open("open", "-t", "--", "office", "sh", "-c", "stty raw -echo; echo dead; while :; do sleep 1000; done")
	p.await("dead")
	p.keys("~?")
	p.await("leave; the session ends unless it is kept")
	p.keys("~.")
	p.await("status=255")
	p.await("ztm: left office")
	if after := p.sttyHere(); after != before {
		t.Errorf("the terminal was\n%sand is\n%s", before, after)
	}
}

func TestTerminalIsRestoredAfterASignal(t *testing.T) {
	p := newPane(t)
	before := p.sttyHere()
	p.open("open", "-t", "--", "office", "sh", "-c", "echo process $((1))-$PPID.; exec sleep 1000")
	p.await("process 1-")
	_, pid, _ := strings.Cut(p.screen(), "process 1-")
	pid, _, _ = strings.Cut(pid, ".")
	if err := exec.Command("kill", "-TERM", pid).Run(); err != nil {
		t.Fatal(err)
	}
	p.await("status=255")
	if after := p.sttyHere(); after != before {
		t.Errorf("the terminal was\n%sand is\n%s", before, after)
	}
}

func TestFullScreenPrograms(t *testing.T) {
	for _, program := range []string{"vi", "top"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is missing")
		}
	}
	p := newPane(t)
	file := filepath.Join(t.TempDir(), "text")
	p.open("open", "-t", "--", "office", "vi", "-u", "NONE", file)
	p.await("~\n~\n~")
	p.keys("i", "naïve text", "Escape", ":wq", "Enter")
	p.await("status=0")
	if b, err := os.ReadFile(file); err != nil || string(b) != "naïve text\n" {
		t.Errorf("vi wrote %q, %v", b, err)
	}
	p.open("open", "-t", "--", "office", "top")
	p.await("load average")
	p.tmux("resize-window", "-x", "120", "-y", "40")
	p.await("PID")
	p.keys("q")
	p.await("status=0")
}
