//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestSSHAdHoc: ssh reaches a server that no tunnel was opened for, by its ProxyCommand and by ports that are forwarded in both
// directions; at another user's endpoint only when that user has allowed it.
func TestSSHAdHoc(t *testing.T) {
	t.Parallel()
	program(t, "ssh", "openssh-client")
	m := newMesh(t, options{})
	own, bob := m.newAgent("ep-own", "root"), m.addAgent("ep-bob", "bob")
	own.joinBy(m.path("root.json"))
	key, server := sshServer(t)
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	through := func(exit string) []string {
		command := fmt.Sprintf("ProxyCommand=env ZTM_DATA=%s %s nc %s %%h:%%p", m.root.data, m.client, exit)
		return append(sshOptions(key), "-o", command, "-p", port, "root@"+host)
	}
	at := func(address string) []string {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return append(sshOptions(key), "-p", port, "root@"+host)
	}

	t.Run("nc to an endpoint of my own", func(t *testing.T) { testLogin(t, through("ep-own")) })
	t.Run("nc to an endpoint of bob", func(t *testing.T) {
		r := finish(exec.Command("ssh", append(through("ep-bob"), "true")...), nil, nil)
		for _, want := range []string{"ask the owner of ep-bob", "ztm tunnel allow --target " + server} {
			if r.status != 255 || !strings.Contains(r.stderr, want) {
				t.Errorf("status %d, %q; want %q", r.status, r.stderr, want)
			}
		}
		bob.ztm("tunnel", "allow", "--target", server, "--users", "root")
		testLogin(t, through("ep-bob"))
	})
	t.Run("forward", func(t *testing.T) {
		entrance := loopback(freePort(t))
		stop := m.root.forward(t, "ep-bob", entrance+":"+server)
		testLogin(t, at(entrance))
		stop()
	})
	t.Run("forward --reverse", func(t *testing.T) {
		entrance := loopback(freePort(t))
		stop := m.root.forward(t, "--reverse", "ep-own", entrance+":"+server)
		testLogin(t, at(entrance))
		stop()
		await(t, "the endpoint listens no more", func() bool { return !listens(entrance) })
	})
}

// TestAdHocFailures: what was cut off does not look complete, neither to those who use nc and forward nor to the service.
func TestAdHocFailures(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	own := m.newAgent("ep-own", "root")
	own.joinBy(m.path("root.json"))
	broken := serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "half")
		io.ReadFull(c, make([]byte, 4)) // the other half
		c.SetLinger(0)                  // with it, closing is a reset
		c.Close()
	}).address()

	r := m.run(m.root, []byte("half"), "nc", "ep-own", broken)
	if r.status != failed || r.stderr != "ztm: "+broken+": the connection was cut off\n" {
		t.Errorf("nc to a service that fails: %v", r)
	}
	entrance := loopback(freePort(t))
	stop := m.root.forward(t, "ep-own", entrance+":"+broken)
	c := dial(t, entrance)
	if _, err := io.WriteString(c, "half"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client of a forward to a service that fails got %v", err)
	}
	stop()

	begun, ended := make(chan struct{}), make(chan error, 1)
	sink := serve(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 4))
		close(begun)
		_, err := io.ReadAll(c)
		ended <- err
	}).address()
	cmd := m.command(context.Background(), m.root.name, "nc", "ep-own", sink)
	cmd.Env = append(cmd.Env, "ZTM_DATA="+m.root.data)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	p := launch(t, "nc", cmd)
	if _, err := io.WriteString(stdin, "half"); err != nil {
		t.Fatal(err)
	}
	<-begun
	p.kill()
	if err := <-ended; err == nil {
		t.Error("nc was killed, and the service takes what it got for all there is")
	}
}

// forward starts `ztm forward` and waits until it works. stop interrupts it, as Ctrl-C does.
func (a *agent) forward(t testing.TB, args ...string) (stop func()) {
	t.Helper()
	cmd := a.mesh.command(context.Background(), a.name, append([]string{"forward"}, args...)...)
	cmd.Env = append(cmd.Env, "ZTM_DATA="+a.data)
	p := launch(t, "forward", cmd)
	await(t, "the port is forwarded", func() bool {
		if !p.running() {
			t.Fatalf("ztm forward ended with status %d:\n%s", p.wait(), p.output())
		}
		return strings.Contains(p.output(), " goes to ")
	})
	return func() {
		t.Helper()
		p.signal(syscall.SIGINT)
		if status := p.wait(); status != 0 {
			t.Errorf("ztm forward was interrupted and ended with status %d:\n%s", status, p.output())
		}
		if !strings.Contains(p.output(), " connected\n") {
			t.Errorf("ztm forward did not show the connection:\n%s", p.output())
		}
	}
}

// testLogin sends a file over ssh and gets it back, and runs a command that fails.
func testLogin(t testing.TB, remote []string) {
	t.Helper()
	data := random(t, "ssh", 20<<20)
	if got := call(t, bytes.NewReader(data), "ssh", append(remote, "cat")...); sum([]byte(got)) != sum(data) {
		t.Errorf("%d bytes came back, which are not the %d that were sent", len(got), len(data))
	}
	if r := finish(exec.Command("ssh", append(remote, "exit 7")...), nil, nil); r.status != 7 {
		t.Errorf("ssh 'exit 7' ended with status %d: %s", r.status, r.stderr)
	}
}
