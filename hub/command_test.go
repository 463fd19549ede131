package hub

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/state"
)

// hubProcess is a hub that is a process of its own.
type hubProcess struct {
	t   testing.TB
	cmd *exec.Cmd
	out *appstest.Buffer // both streams
}

// runHub starts a hub as a process.
func runHub(t testing.TB, args ...string) *hubProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &hubProcess{t: t, cmd: exec.Command(self), out: &appstest.Buffer{}}
	p.cmd.Args = append([]string{"ztm-hub"}, args...)
	p.cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "ZTM_DATA=")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// says waits until the process has printed something.
func (p *hubProcess) says(part string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Log(p.out.String())
		}
	}()
	eventually(p.t, fmt.Sprintf("the hub says %q", part), func() bool { return strings.Contains(p.out.String(), part) })
}

// end sends a signal and returns the status.
func (p *hubProcess) end(s os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// address waits until the hub listens and returns where.
func (p *hubProcess) address() string {
	p.t.Helper()
	p.says("hub is running")
	_, rest, _ := strings.Cut(p.out.String(), " listen=")
	return strings.Fields(rest)[0]
}

// as makes a testHub of a process, for its devices.
func (p *hubProcess) as(address, permit string) *testHub {
	p.t.Helper()
	_, ca, err := state.ReadRoot(permit)
	if err != nil {
		p.t.Fatal(err)
	}
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	return &testHub{t: p.t, ca: ca, log: p.out, started: Started{Address: a, Mesh: ca.Mesh()}}
}

func TestTheCommandFoundsAMeshAndEndsBySignal(t *testing.T) {
	dir := t.TempDir()
	permit := filepath.Join(dir, "root.json")
	p := runHub(t, "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--names", "hub.test:1", "--permit", permit)
	address := p.address()
	p.says("ztm join my-mesh --as my-first-ep --permit root.json")
	p.says("A permit file is saved to " + permit)
	h := p.as(address, permit)
	a := h.device("alice").online("a")
	if bytes.Contains([]byte(p.out.String()), secretsOf(t, h.ca.KeyPEM())[2]) {
		t.Error("the CA key was printed")
	}
	if status := p.end(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d: %s", status, p.out)
	}
	wait(t, "the agent notices", a.ended)

	p = runHub(t, "--data", filepath.Join(dir, "data"), "--listen", address)
	p.says("hub is running")
	if out := p.out.String(); strings.Contains(out, "permit") {
		t.Errorf("a later start speaks of a permit: %s", out)
	}
	if got := names(t, a.device.session()); len(got) != 1 {
		t.Errorf("after a restart the directory has %q", got)
	}
	if status := p.end(os.Interrupt); status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestALaterStartListensWhereTheLastOneDid(t *testing.T) {
	dir := t.TempDir()
	p := runHub(t, "--data", dir, "--listen", "127.0.0.1:0", "--names", "hub.test:1")
	p.address()
	p.end(syscall.SIGTERM)
	p = runHub(t, "--data", dir)
	if address := p.address(); !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("it listens on %s, and was told 127.0.0.1:0", address)
	}
	p.end(syscall.SIGTERM)
}

func TestTheCommandFailsInWords(t *testing.T) {
	dir := t.TempDir()
	first := []string{"--data", dir, "--listen", "127.0.0.1:0", "--names", "h:1"}
	cases := []struct {
		part   string
		status int
		args   []string
	}{
		{"needs the names", 2, first[:4]},
		{"hub2.json is not there, and a new mesh needs the names", 2, append(first[:4:4], "--permit", "hub2.json")},
		{"permit cannot be written", 1, append(first[:6:6], "--permit", "/nonexistent/p.json")},
		{"is not host:port", 2, append(first[:6:6], "--names", "h")},
		{"loopback", 2, append(first[:6:6], "--metrics", "0.0.0.0:1")},
		{"want [ip:]port", 2, append(first[:6:6], "--listen", "here")},
		{"want at least 1", 2, append(first[:6:6], "--max-agents", "-1")},
		{"unexpected argument", 2, append(first[:6:6], "something")},
		{"log level", 2, append(first[:6:6], "--log-level", "loud")},
	}
	for _, c := range cases {
		t.Run(c.part, func(t *testing.T) {
			p := runHub(t, c.args...)
			p.cmd.Wait()
			if status := p.cmd.ProcessState.ExitCode(); status != c.status || !strings.Contains(p.out.String(), c.part) {
				t.Errorf("status %d, want %d: %s", status, c.status, p.out)
			}
		})
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("%q is left behind", left)
	}
}

// A hub that is killed takes nothing with it. Its paths end at once; that the end was not an
// agent's is for the sealed session to tell.
func TestAHubThatIsKilledComesBack(t *testing.T) {
	dir := t.TempDir()
	p := runHub(t, "--data", dir, "--listen", "127.0.0.1:0", "--names", "hub.test:1")
	address := p.address()
	h := p.as(address, filepath.Join(dir, "root.json"))
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	go func() { // until the path breaks
		for block := make([]byte, 1<<16); ; {
			if _, err := near.Write(block); err != nil {
				return
			}
		}
	}()
	if _, err := io.ReadFull(far, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	p.end(os.Kill)
	far.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.Copy(io.Discard, far); isTimeout(err) {
		t.Error("the path stands")
	}
	wait(t, "a notices", a.ended)
	wait(t, "b notices", b.ended)

	p = runHub(t, "--data", dir, "--listen", address)
	p.says("hub is running")
	a2, b2 := a.device.online("a"), b.device.online("b")
	pair(t, a2, b2, openers["connection"], openers["connection"])
}

// The claim of the relay: what it carries does not come into its process.
func TestTheKernelMovesTheBytes(t *testing.T) {
	appstest.Long(t)
	counted := func(pid int) (int64, bool) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
		if err != nil {
			return 0, false
		}
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "rchar: "); ok {
				n, err := strconv.ParseInt(v, 10, 64)
				return n, err == nil
			}
		}
		return 0, false
	}
	if _, ok := counted(os.Getpid()); !ok {
		t.Skip("this system does not count the bytes that a process reads")
	}
	dir := t.TempDir()
	p := runHub(t, "--data", dir, "--listen", "127.0.0.1:0", "--names", "hub.test:1")
	address := p.address()
	h := p.as(address, filepath.Join(dir, "root.json"))
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])

	const size = 256 << 20
	before, _ := counted(p.cmd.Process.Pid)
	var wg sync.WaitGroup
	for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
		wg.Go(func() {
			for block, left := make([]byte, 1<<20), size; left > 0; left -= len(block) {
				if _, err := ends[0].Write(block); err != nil {
					t.Error(err)
					return
				}
			}
			ends[0].(interface{ CloseWrite() error }).CloseWrite()
		})
		wg.Go(func() {
			if n, err := io.Copy(io.Discard, ends[1]); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
	after, _ := counted(p.cmd.Process.Pid)
	if read := after - before; read > size/100 {
		t.Errorf("the hub read %d bytes to carry %d", read, 2*size)
	}
	p.end(syscall.SIGTERM)
	t.Logf("carried %d MiB each way; the hub's whole CPU time: user %v, system %v", size>>20,
		p.cmd.ProcessState.UserTime(), p.cmd.ProcessState.SystemTime())
}

func TestAPortIsAnAddressOnAllInterfaces(t *testing.T) {
	for in, want := range map[string]string{"8888": ":8888", "0.0.0.0:1": "0.0.0.0:1", "[::]:1": "[::]:1", "host": "host"} {
		if got := withHost(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
