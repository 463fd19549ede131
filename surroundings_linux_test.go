package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
)

// started is a hub or an agent as a process of its own.
type started struct {
	cmd   *exec.Cmd
	data  string
	ended chan error // its end, once
}

// startDaemon starts `ztm run agent` by a shell line in which "$@" is it, and waits until it
// listens. It has no terminal.
func startDaemon(t *testing.T, shell ...string) *started {
	t.Helper()
	bin := program(t)
	d := &started{data: t.TempDir(), ended: make(chan error, 1)}
	shell = append(shell, "sh", filepath.Join(bin, "ztm"), "run", "agent", "--data", d.data)
	d.cmd = command(t, bin, d.data, shell[0], shell[1:]...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }() // awaited by the cleanup or the test
	t.Cleanup(func() {
		syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-d.ended:
		default:
		}
	})
	appstest.Eventually(t, "the agent listens", d.listens)
	return d
}

func (d *started) listens() bool {
	c, err := net.Dial("unix", filepath.Join(d.data, "agent.sock"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

func TestWhoCanConnectToTheAgentAndHasNoTokenIsNotTheUser(t *testing.T) {
	d := startDaemon(t, "sh", "-c", `exec "$@"`)
	for name, want := range map[string]int{"": http.StatusUnauthorized, "agent.token": http.StatusOK} {
		c, err := net.Dial("unix", filepath.Join(d.data, "agent.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token, err := os.ReadFile(filepath.Join(d.data, name)); err == nil {
			req.Header.Set(api.TokenHeader, strings.TrimSpace(string(token)))
		}
		if err := req.Write(c); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("with the token of the file %q: %s, want %d", name, resp.Status, want)
		}
	}
}

// stop ends it with SIGTERM and returns how it ended.
func (d *started) stop(t *testing.T) error {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return <-d.ended
}

// mask returns a set of signals in /proc/PID/status.
func mask(t *testing.T, pid int, name string) uint64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return set
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func TestTheReadersOfItsOutputMayGoAway(t *testing.T) {
	for _, trap := range []string{"", `trap "" PIPE; `} {
		bin, data, address := program(t), t.TempDir(), appstest.FreeAddress(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := command(t, bin, data, "sh", "-c", trap+`exec "$@"`, "sh", filepath.Join(bin, "ztm"), "run", "hub",
			"--data", data, "--listen", address, "--names", address) // it says where the permit of its new mesh is
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		appstest.Eventually(t, "the hub listens", func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%q: it ended with %v", trap, err)
		}
	}
}

func TestAHangupWithoutATerminalEndsNothing(t *testing.T) {
	d := startDaemon(t, "sh", "-c", `exec "$@"`)
	for range 2 {
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.stop(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestIgnoredSignalsStayIgnoredAndAreNotHandedOn(t *testing.T) {
	d := startDaemon(t, "sh", "-c", `trap "" INT HUP PIPE; exec "$@"`)
	set := uint64(0)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		set |= 1 << (s - 1)
	}
	if ignored := mask(t, d.cmd.Process.Pid, "SigIgn") & set; ignored != 0 {
		t.Errorf("programs that it starts ignore the signals %x, too", ignored)
	}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if err := d.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if !d.listens() {
		t.Error("an ignored signal ended it")
	}
	if err := d.stop(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestFilesAreNotOpenToOthersUnderUmask0(t *testing.T) {
	d := startDaemon(t, "sh", "-c", `umask 0; exec "$@"`)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(b), "Umask:\t0022\n") {
		t.Errorf("%v:\n%s", err, b)
	}
}

func TestStreamsThatAreClosedAreNotTakenByFiles(t *testing.T) {
	d := startDaemon(t, "sh", "-c", `exec "$@" <&- >&- 2>&-`)
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", d.cmd.Process.Pid, fd)); err != nil || to != os.DevNull {
			t.Errorf("descriptor %d is %s, %v", fd, to, err)
		}
	}
}

func TestTheFirstProcessOfAContainerWaitsForOrphans(t *testing.T) {
	if err := exec.Command("unshare", "--pid", "--fork", "true").Run(); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	// The orphan's parent ends at once; the orphan ends when it is told to.
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
		`(sh -c 'read x <"$0"' `+fifo+` &); exec "$@"`)
	first := children(t, d.cmd.Process.Pid, "")
	if len(first) != 1 {
		t.Fatalf("unshare has the children %v", first)
	}
	agents := children(t, first[0], "exe") // from /proc/self/exe
	if len(agents) != 1 {
		t.Fatalf("the first process has the agents %v", agents)
	}
	if ignored := mask(t, agents[0], "SigIgn"); ignored != 0 {
		t.Errorf("programs that the agent starts ignore the signals %x, too", ignored)
	}
	appstest.Eventually(t, "the orphan is adopted", func() bool { return len(children(t, first[0], "sh")) == 1 })
	if err := os.WriteFile(fifo, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "the orphan is waited for", func() bool { return len(children(t, first[0], "sh")) == 0 })
	if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestTheFirstProcessOfAContainerEndsAsItsChildDoes: the status is what a container is judged by.
func TestTheFirstProcessOfAContainerEndsAsItsChildDoes(t *testing.T) {
	if err := exec.Command("unshare", "--pid", "--fork", "true").Run(); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	bin := program(t)
	cmd := command(t, bin, t.TempDir(), "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", filepath.Join(bin, "ztm"), "run", "agent", "nonsense")
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

// children returns the processes of which pid is the parent, zombies too: all, or those of a
// program.
func children(t *testing.T, pid int, program string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		var n, parent int
		var name, state string
		if _, err := fmt.Sscanf(string(b), "%d %s %s %d", &n, &name, &state, &parent); err != nil {
			continue // its name has spaces
		}
		if parent == pid && (program == "" || name == "("+program+")") {
			pids = append(pids, n)
		}
	}
	return pids
}
