//go:build linux

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestClusters: a proxy reaches the services of two isolated clusters, by their names there, although both have the
// same addresses; one is mine, one is bob's, who allows it.
func TestClusters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	program(t, "curl", "curl")
	program(t, "dig", "bind9-dnsutils")
	newCluster(t, w, "a", "east")
	newCluster(t, w, "b", "west")

	port := freePort(t)
	places := map[string]string{"hub": "public", "ep-root": "public", "ep-east": "a", "ep-west": "b"}
	m := newMesh(t, options{
		listen: net.JoinHostPort("0.0.0.0", strconv.Itoa(port)),
		names:  net.JoinHostPort(hubIP, strconv.Itoa(port)),
		wrap:   func(who string) []string { return w.In(places[who]) },
	})
	east := m.newAgent("ep-east", "root")
	east.joinBy(m.path("root.json"))
	west := m.addAgent("ep-west", "bob")

	const proxy, dns = "127.0.0.1:1080", "127.0.0.1:5353"
	east.ztm("proxy", "config", "--add-target", "*.east.svc.cluster.local", "--add-exclusion", "10.43.0.53")
	west.ztm("proxy", "config", "--add-target", "*.west.svc.cluster.local")
	m.root.ztm("proxy", "config", "--set-listen", proxy, "--dns", dns)
	curl := func(scheme, url string) string {
		words := append(w.In("public"), "curl", "-sS", "-m", "30", "-x", scheme+"://"+proxy, url)
		out, _ := exec.Command(words[0], words[1:]...).CombinedOutput() // what went wrong is in out
		return strings.TrimSpace(string(out))
	}
	await(t, "the first service is reached", func() bool {
		return curl("http", "http://svc-a.east.svc.cluster.local:8080/") == "svc-a of east"
	})

	check := func(scheme, url, want string) {
		t.Helper()
		if got := curl(scheme, url); !strings.Contains(got, want) {
			t.Errorf("%s by %s: %s; want %s", url, scheme, got, want)
		}
	}
	for _, scheme := range []string{"http", "socks4a", "socks5h"} {
		check(scheme, "http://svc-a.east.svc.cluster.local:8080/", "svc-a of east")
		check(scheme, "http://svc-b.east.svc:8080/", "svc-b of east")
		check(scheme, "http://svc-a.east:8080/", "svc-a of east")
	}
	check("socks5h", "http://svc-a.east.svc.cluster.local:8081/", "(5)")  // refused by the target
	check("socks5h", "http://nobody.east.svc.cluster.local:8080/", "(4)") // no such name
	check("socks5h", "http://dns.east.svc.cluster.local:53/", "(2)")      // excluded by its address
	check("socks5h", "http://self.east.svc.cluster.local:8080/", "(2)")   // the exit's own address

	// Bob's cluster: he must allow it, and I must want to go through it.
	const theirs = "http://svc-a.west.svc.cluster.local:8080/"
	check("socks5h", theirs, "(3)")
	m.root.ztm("proxy", "config", "--via", "*.west.svc.cluster.local=ep-west")
	check("socks5h", theirs, "(2)")
	west.ztm("proxy", "rules", "--users", "root", "--targets", "*.west.svc.cluster.local:8080", "--action", "allow")
	check("socks5h", theirs, "svc-a of west")
	check("http", "http://svc-a.west.svc.cluster.local:8081/", "ask the owner of ep-west")
	m.root.ztm("proxy", "config", "--remove-via", "*.west.svc.cluster.local")
	await(t, "the refusal says what would help", func() bool { return strings.Contains(curl("http", theirs), "--add-trust bob") })
	m.root.ztm("proxy", "config", "--trust", "bob")
	check("socks5h", theirs, "svc-a of west")
	check("socks5h", "http://svc-b.west.svc:8080/", "svc-b of west")

	for name, want := range map[string]string{"svc-a.east.svc.cluster.local": "10.43.0.1", "svc-b.west.svc.cluster.local": "10.43.0.2"} {
		words := append(w.In("public"), "dig", "@127.0.0.1", "-p", "5353", "+short", name)
		if got := strings.TrimSpace(call(t, nil, words[0], words[1:]...)); got != want {
			t.Errorf("dig %s: %q, want %s", name, got, want)
		}
	}
}

// newCluster makes a place a cluster: services at 10.43.0.1 and 10.43.0.2, a name server at 10.43.0.53 and a
// resolv.conf as pods have it.
func newCluster(t testing.TB, w *world, place, name string) {
	t.Helper()
	dnsmasq, python := program(t, "dnsmasq", "dnsmasq-base"), program(t, "python3", "python3")
	for _, ip := range []string{"10.43.0.1", "10.43.0.2", "10.43.0.53"} {
		w.IP(place, "addr add "+ip+"/32 dev lo")
	}
	domain := name + ".svc.cluster.local"
	w.Resolv(place, "nameserver 10.43.0.53\nsearch "+domain+" svc.cluster.local cluster.local\noptions ndots:5\n")
	w.check()
	in := func(words ...string) *exec.Cmd {
		words = append(w.In(place), words...)
		return exec.Command(words[0], words[1:]...)
	}
	launch(t, "dnsmasq-"+name, in(dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
		"--bind-interfaces", "--listen-address=10.43.0.53", "--local=/cluster.local/", "--host-record=svc-a."+domain+",10.43.0.1",
		"--host-record=svc-b."+domain+",10.43.0.2", "--host-record=dns."+domain+",10.43.0.53", "--host-record=self."+domain+",127.0.0.1"))
	for i, service := range []string{"svc-a", "svc-b"} {
		dir, err := os.MkdirTemp(workspace, "service-")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(service+" of "+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		launch(t, service+"-"+name, in(python, "-m", "http.server", "8080", "--bind", "10.43.0."+strconv.Itoa(i+1), "--directory", dir))
	}
}
