package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
)

// namespace is a network namespace that stands for a cluster. Nothing leads into it but the proxy.
//
//	entrance (here) ── mesh ── exit ─┐ east: 10.43.0.10 dnsmasq, 10.43.0.1 svc-a, 10.43.0.2 svc-b
//	                └─ mesh ── exit ─┐ west: the same addresses, other services
type namespace struct{ name string }

func newNamespace(t *testing.T, name string) namespace {
	t.Helper()
	ip := program(t, "iproute2", "ip")
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns := namespace{fmt.Sprintf("ztm-proxy-%s-%d", name, os.Getpid())}
	if out, err := exec.Command(ip, "netns", "add", ns.name).CombinedOutput(); err != nil {
		t.Skipf("no network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command(ip, "netns", "delete", ns.name).Run() })
	for _, args := range []string{"link set lo up", "address add 10.43.0.1/32 dev lo", "address add 10.43.0.2/32 dev lo", "address add 10.43.0.10/32 dev lo"} {
		if out, err := exec.Command(ip, append([]string{"-n", ns.name}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	return ns
}

// in calls f with its thread in the namespace.
func (ns namespace) in(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + ns.name)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread() // otherwise the thread ends with its goroutine
	}
	return err
}

func (ns namespace) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = ns.in(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// serve serves HTTP in the namespace and says a text.
func (ns namespace) serve(t *testing.T, address, text string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", text, r.Host)
	}))
	server.Listener.Close()
	if err := ns.in(func() (err error) {
		server.Listener, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
}

// dnsmasq serves the names of a cluster in the namespace.
func (ns namespace) dnsmasq(t *testing.T, name string) {
	t.Helper()
	dnsmasq := program(t, "dnsmasq-base", "dnsmasq", "/usr/sbin/dnsmasq")
	domain := name + ".svc.cluster.local"
	cmd := exec.Command("ip", "netns", "exec", ns.name, dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
		"--user=root", "--pid-file=", "--bind-interfaces", "--listen-address=10.43.0.10", "--local=/cluster.local/",
		"--host-record=svc-a."+domain+",10.43.0.1", "--host-record=svc-b."+domain+",10.43.0.2", "--cname=alias."+domain+",svc-a."+domain,
		"--host-record=secret."+domain+",10.43.0.10", "--host-record=self."+domain+",127.0.0.1",
		"--srv-host=_http._tcp.svc-a."+domain+",svc-a."+domain+",8080,1,2")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	appstest.Eventually(t, "dnsmasq", func() bool {
		c, err := ns.dial(t.Context(), "tcp", "10.43.0.10:53")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// join makes an exit in the namespace.
func (ns namespace) join(t *testing.T, n *appstest.Net, name string) *endpoint {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "nameserver 10.43.0.10\nsearch "+name+".svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
	return join(t, n, name, "alice", Options{
		ResolvConf: conf, Dial: ns.dial,
		Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return ns.dial(ctx, network, "10.43.0.10:53")
		}},
	})
}

func TestTwoIsolatedClusters(t *testing.T) {
	appstest.Long(t)
	curl := program(t, "curl", "curl")
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	var west *endpoint
	for _, name := range []string{"east", "west"} {
		ns := newNamespace(t, name)
		ns.dnsmasq(t, name)
		ns.serve(t, "10.43.0.1:8080", "a of "+name)
		ns.serve(t, "10.43.0.2:8080", "b of "+name)
		west = ns.join(t, &n, name)
		west.change(t, Change{AddTargets: []string{"*." + name + ".svc.cluster.local"}, AddExclusions: []string{"10.43.0.10"}})
	}
	address, dns := in.listen(t), in.listenDNS(t)
	for url, want := range map[string]string{
		"http://svc-a.east.svc.cluster.local:8080": "a of east for svc-a.east.svc.cluster.local:8080",
		"http://svc-b.west.svc.cluster.local:8080": "b of west for svc-b.west.svc.cluster.local:8080",
		"http://SVC-A.West.svc.cluster.local:8080": "a of west for SVC-A.West.svc.cluster.local:8080",
		"http://svc-a.east.svc:8080":               "a of east for svc-a.east.svc:8080",
		"http://svc-a.west:8080":                   "a of west for svc-a.west:8080",
		"http://alias.east.svc:8080":               "a of east for alias.east.svc:8080",
		"http://nobody.east.svc.cluster.local":     "(4)",
		"http://svc-a.east.svc.cluster.local:9999": "(5)",
		"http://secret.east.svc.cluster.local:53":  "(2)", // excluded by its address
		"http://self.east.svc.cluster.local:8080":  "(2)", // the exit's own
		"http://svc-a.north.svc.cluster.local":     "(3)",
	} {
		msg, err := command(t, nil, curl, "-sS", "-m", "20", "-x", "socks5h://"+address, url)
		if !strings.Contains(msg, want) {
			t.Errorf("%s: %v, want %s: %s", url, err, want, msg)
		}
	}
	// The same addresses are in both clusters; the route says which is meant.
	west.change(t, Change{AddTargets: []string{"10.43.0.0/24"}})
	in.change(t, Change{Via: map[string]string{"10.43.0.0/16": "west"}})
	if msg, err := command(t, nil, curl, "-sS", "-m", "20", "-x", "http://"+address, "http://10.43.0.1:8080"); err != nil || !strings.HasPrefix(msg, "a of west") {
		t.Errorf("by address: %v: %s", err, msg)
	}
	for args, want := range map[string]string{
		"svc-a.east.svc.cluster.local":                "svc-a.east.svc.cluster.local. 5 IN A 10.43.0.1",
		"svc-b.west.svc.cluster.local":                "svc-b.west.svc.cluster.local. 5 IN A 10.43.0.2",
		"alias.west.svc.cluster.local CNAME":          "alias.west.svc.cluster.local. 5 IN CNAME svc-a.west.svc.cluster.local.",
		"_http._tcp.svc-a.west.svc.cluster.local SRV": "_http._tcp.svc-a.west.svc.cluster.local. 5 IN SRV 1 2 8080 svc-a.west.svc.cluster.local.",
	} {
		answer, status := dig(t, dns, strings.Fields(args)...)
		if len(answer) != 1 || answer[0] != want {
			t.Errorf("dig %s: %s %q, want %q", args, status, answer, want)
		}
	}
	if answer, status := dig(t, dns, "secret.east.svc.cluster.local"); len(answer) > 0 || status != "NOERROR" {
		t.Errorf("an excluded address is told: %s %q", status, answer)
	}
}
