//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestProxy: agents that may go out through a proxy alone reach the hub and each other through it, and make no
// connection past it. HTTPS_PROXY is not for hubs on this machine: see TestProxyOfTheEnvironment.
func TestProxy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		start func(t testing.TB, hubPort int) (port int)
		url   string // with %d for the port
	}{
		{"HTTP, by option", tinyproxy, "http://127.0.0.1:%d"},
		{"SOCKS5, by option", sshProxy, "socks5://127.0.0.1:%d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hubPort := freePort(t)
			port := c.start(t, hubPort)
			url := fmt.Sprintf(c.url, port)
			m := newMesh(t, options{listen: loopback(hubPort), agentArgs: []string{"--proxy", url}})
			bob := m.addAgent("ep-bob", "bob")
			if err := echo(m.root.tunnel("echo", bob, echoes(t).address())); err != nil {
				t.Error(err)
			}
			for _, a := range m.agents {
				to := a.connections()
				if len(to) < 2 { // the control session and a path
					t.Errorf("%s has %d connections, want at least 2", a.name, len(to))
				}
				for _, address := range to {
					if address != kernelAddress(port) {
						t.Errorf("%s has a connection to %s past the proxy", a.name, address)
					}
				}
			}
		})
	}

	t.Run("a proxy that refuses is named", func(t *testing.T) {
		t.Parallel()
		port := tinyproxy(t, 443) // not the hub's
		m := newHub(t, options{agentArgs: []string{"--proxy", fmt.Sprintf("http://127.0.0.1:%d", port)}})
		a := m.newAgent("ep-root", "root")
		mistake{args: "join demo --as ep-root --permit root.json", status: failed, want: []string{"proxy", "403", m.names}}.check(t, a.try)
	})
}

// TestProxyOfTheEnvironment: agents that reach the hub through a proxy alone, of which HTTPS_PROXY tells them, and which
// wants a password.
func TestProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hubPort, port := freePort(t), freePort(t)
	w.Nft("public", fmt.Sprintf("table ip fence {\nchain in {\ntype filter hook input priority filter; iifname != lo tcp dport %d drop;\n}\n}", hubPort))
	w.check()
	proxy := startTinyproxy(t, fmt.Sprintf("Listen %s\nPort %d\nConnectPort %d\nBasicAuth user password\n", hubIP, port, hubPort), w.In("public")...)
	await(t, "tinyproxy listens", func() bool { return strings.Contains(proxy.output(), "Accepting connections") })

	places := map[string]string{"hub": "public", "ep-wrong": "a", "ep-root": "a", "ep-bob": "b"}
	m := newHub(t, options{
		listen: net.JoinHostPort("0.0.0.0", strconv.Itoa(hubPort)),
		names:  net.JoinHostPort(hubIP, strconv.Itoa(hubPort)),
		wrap:   func(who string) []string { return w.In(places[who]) },
	})
	with := func(password string) {
		m.env = []string{fmt.Sprintf("HTTPS_PROXY=http://user:%s@%s:%d", password, hubIP, port)}
	}
	with("wrong")
	mistake{args: "join demo --as ep-wrong --permit root.json", status: failed, want: []string{"proxy", "401"}}.check(t, m.newAgent("ep-wrong", "root").try)

	with("password")
	m.root = m.newAgent("ep-root", "root")
	m.root.joinBy(m.path("root.json"))
	bob := m.addAgent("ep-bob", "bob")
	_, entrance, err := net.SplitHostPort(m.root.tunnel("redis", bob, redisServer(t, "127.0.0.1", w.In("b")...)))
	if err != nil {
		t.Fatal(err)
	}
	cli := append(w.In("a"), program(t, "redis-cli", "redis-tools"), "-p", entrance, "ping")
	if got := call(t, nil, cli[0], cli[1:]...); got != "PONG\n" {
		t.Errorf("got %q", got)
	}
}

// tinyproxy starts an HTTP proxy that makes tunnels to one port, and returns its own.
func tinyproxy(t testing.TB, connectPort int) int {
	t.Helper()
	port := freePort(t)
	startTinyproxy(t, fmt.Sprintf("Listen 127.0.0.1\nPort %d\nConnectPort %d\n", port, connectPort))
	await(t, "tinyproxy listens", func() bool { return listening(t, port) })
	return port
}

// startTinyproxy starts an HTTP proxy, below words that say where.
func startTinyproxy(t testing.TB, config string, where ...string) *process {
	t.Helper()
	file, err := os.CreateTemp(workspace, "tinyproxy-")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("MaxClients 50\nTimeout 600\n" + config); err != nil {
		t.Fatal(err)
	}
	words := append(where, program(t, "tinyproxy", "tinyproxy"), "-d", "-c", file.Name())
	return launch(t, "tinyproxy", exec.Command(words[0], words[1:]...))
}

// sshProxy starts an OpenSSH client that is a SOCKS5 proxy, and returns its port.
func sshProxy(t testing.TB, _ int) int {
	t.Helper()
	ssh, port := program(t, "ssh", "openssh-client"), freePort(t)
	key, server := sshServer(t)
	_, serverPort, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	launch(t, "ssh", exec.Command(ssh, append(sshOptions(key), "-N", "-D", loopback(port), "-p", serverPort, "root@127.0.0.1")...))
	await(t, "ssh listens", func() bool { return listening(t, port) })
	return port
}

// sshOptions are those of ssh and scp: a key, and nothing of the person who runs the test.
func sshOptions(key string) []string {
	return strings.Fields("-F none -i " + key + " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR")
}
