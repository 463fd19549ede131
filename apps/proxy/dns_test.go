package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
)

// manyAddresses do not fit an answer over UDP.
const manyAddresses = 64

// cluster makes a mesh whose exit serves *.svc.cluster.local, and returns where the entrance answers DNS.
func cluster(t testing.TB) (dns string, in, out *endpoint) {
	t.Helper()
	many := strings.Repeat("10.43.1.1 ", manyAddresses)
	in, out = pair(t, Options{Resolver: dnstest.Names{
		"svc-a.ns.svc.cluster.local": "10.43.0.1 10.43.0.2 fd00::1", "alias.svc.cluster.local": "-> svc-a.ns.svc.cluster.local",
		"evil.svc.cluster.local": "127.0.0.1 169.254.169.254", "secret.svc.cluster.local": "10.43.9.9", "four.svc.cluster.local": "10.43.0.4",
		"many.svc.cluster.local": many, "broken.svc.cluster.local": "broken",
	}}, "*.svc.cluster.local:80")
	out.change(t, Change{AddExclusions: []string{"10.43.9.0/24"}})
	return in.listenDNS(t), in, out
}

// dig runs dig against an address and returns its output without comments and empty lines, and the status.
func dig(t *testing.T, address string, args ...string) (answer []string, status string) {
	t.Helper()
	path, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is missing: apt-get install bind9-dnsutils")
	}
	host, port, _ := net.SplitHostPort(address)
	b, err := exec.Command(path, append([]string{"@" + host, "-p", port, "+tries=1", "+time=10"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %v: %v\n%s", args, err, b)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if _, rest, ok := strings.Cut(line, "status: "); ok {
			status, _, _ = strings.Cut(rest, ",")
		}
		if line != "" && !strings.HasPrefix(line, ";") {
			answer = append(answer, strings.Join(strings.Fields(line), " "))
		}
	}
	return answer, status
}

func TestDigResolvesTheNamesOfACluster(t *testing.T) {
	appstest.Long(t)
	address, _, _ := cluster(t)
	const a1, a2 = "svc-a.ns.svc.cluster.local. 5 IN A 10.43.0.1", "svc-a.ns.svc.cluster.local. 5 IN A 10.43.0.2"
	for _, tt := range []struct {
		args   string
		answer []string
		status string
	}{
		{"svc-a.ns.svc.cluster.local", []string{a1, a2}, "NOERROR"},
		{"+noedns svc-a.ns.svc.cluster.local A", []string{a1, a2}, "NOERROR"},
		{"+tcp SVC-A.ns.svc.cluster.LOCAL", []string{strings.NewReplacer("svc-a", "SVC-A", "cluster.local", "cluster.LOCAL").Replace(a1), strings.NewReplacer("svc-a", "SVC-A", "cluster.local", "cluster.LOCAL").Replace(a2)}, "NOERROR"},
		{"svc-a.ns.svc.cluster.local AAAA", []string{"svc-a.ns.svc.cluster.local. 5 IN AAAA fd00::1"}, "NOERROR"},
		{"four.svc.cluster.local AAAA", nil, "NOERROR"},
		{"alias.svc.cluster.local", []string{"alias.svc.cluster.local. 5 IN CNAME svc-a.ns.svc.cluster.local.", a1, a2}, "NOERROR"},
		{"alias.svc.cluster.local CNAME", []string{"alias.svc.cluster.local. 5 IN CNAME svc-a.ns.svc.cluster.local."}, "NOERROR"},
		{"_http._tcp.svc-a.ns.svc.cluster.local SRV", []string{"_http._tcp.svc-a.ns.svc.cluster.local. 5 IN SRV 1 2 8080 svc-a.ns.svc.cluster.local."}, "NOERROR"},
		{"_ftp._tcp.svc-a.ns.svc.cluster.local SRV", nil, "NXDOMAIN"},
		{"svc-a.ns.svc.cluster.local SRV", nil, "NOERROR"},
		{"svc-a.ns.svc.cluster.local TXT", nil, "SERVFAIL"}, // this exit has no name server to ask
		{"svc-a.ns.svc.cluster.local TYPE65", nil, "SERVFAIL"},
		{"+noedns svc-a.ns.svc.cluster.local ANY", nil, "NOTIMP"},
		{"nobody.svc.cluster.local", nil, "NXDOMAIN"},
		{"nobody.svc.cluster.local CNAME", nil, "NXDOMAIN"},
		{"broken.svc.cluster.local", nil, "SERVFAIL"},
		{"evil.svc.cluster.local", nil, "NOERROR"},   // the exit's own addresses are not told
		{"secret.svc.cluster.local", nil, "NOERROR"}, // nor excluded ones
		{"svc-a.ns.svc.cluster.local A CH", nil, "REFUSED"},
		{"+opcode=NOTIFY svc-a.ns.svc.cluster.local", nil, "NOTIMP"},
	} {
		answer, status := dig(t, address, strings.Fields(tt.args)...)
		if diff := cmp.Diff(tt.answer, answer); diff != "" || status != tt.status {
			t.Errorf("dig %s: %s, want %s (-want +got):\n%s", tt.args, status, tt.status, diff)
		}
	}
	if answer, _ := dig(t, address, "many.svc.cluster.local"); len(answer) != manyAddresses { // after a cut UDP answer, over TCP
		t.Errorf("%d of %d addresses", len(answer), manyAddresses)
	}
}

// dig takes no answer from another address than the one it asked.
func TestDNSAnswersFromTheAddressThatWasAsked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system picks the address here")
	}
	_, in, _ := cluster(t)
	for listen, hosts := range map[string][]string{"0.0.0.0:0": {"127.0.0.1", "127.0.0.2"}, "[::]:0": {"127.0.0.2", "::1"}} {
		in.change(t, Change{DNS: &listen})
		appstest.Eventually(t, "the listener is another", func() bool {
			s := in.app.listeners.status()
			return len(s) == 1 && s[0].Open && s[0].Listen == listen
		})
		_, port, _ := net.SplitHostPort(in.bound(t, true))
		for _, host := range hosts {
			if c, err := net.Dial("tcp", net.JoinHostPort(host, port)); err != nil {
				continue // no IPv6
			} else {
				c.Close()
			}
			if answer, status := dig(t, net.JoinHostPort(host, port), "+notcp", "+noall", "+answer", "+comments", "four.svc.cluster.local"); len(answer) != 1 {
				t.Errorf("%s, asked at %s, answers %s %q", listen, host, status, answer)
			}
		}
	}
}

func TestWhatNoExitServesIsForwarded(t *testing.T) {
	var n appstest.Net
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	// The first name server is this proxy itself, the second does not answer.
	dead := serveTCP(t, func(*net.TCPConn) {})
	in := join(t, &n, "in", "alice", Options{ResolvConf: conf, Dial: dialTo(map[string]string{"192.0.2.53:53": dnstest.ServeForged(t, dnstest.Address([4]byte{192, 0, 2, 1})), "192.0.2.54:53": dead})})
	write(t, conf, "nameserver 192.0.2.54\nnameserver 192.0.2.53\n")
	join(t, &n, "out", "alice", Options{Resolver: names("a.example.com", "b.example.com")}).change(t, Change{AddTargets: []string{"*.example.com"}})
	address := in.listenDNS(t)
	in.change(t, Change{Direct: []string{"b.example.com"}})
	for name, want := range map[string]string{
		"a.example.com": "10.1.1.1", "b.example.com": "192.0.2.1", "www.example.net": "192.0.2.1", "example.com": "192.0.2.1",
	} {
		answer, status := dig(t, address, name)
		if len(answer) != 1 || !strings.HasSuffix(answer[0], " "+want) {
			t.Errorf("%s: %s %q, want %s", name, status, answer, want)
		}
	}
	write(t, conf, "search example.net\n") // and no name server
	if answer, status := dig(t, address, "www.example.net"); status != "SERVFAIL" {
		t.Errorf("without a name server: %s %q", status, answer)
	}
	if err := exec.Command("rm", conf).Run(); err != nil {
		t.Fatal(err)
	}
	if answer, status := dig(t, address, "www.example.net"); status != "NXDOMAIN" { // says the system's resolver
		t.Errorf("without a resolv.conf: %s %q", status, answer)
	}
}

func TestTheResolverDoesNotAskItself(t *testing.T) {
	var n appstest.Net
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "nameserver 127.0.0.1\n")
	in := join(t, &n, "in", "alice", Options{ResolvConf: conf}, func(a *App) {
		own := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 53) // as if it listened where it may not
		a.sys.Bound = func() []netip.AddrPort { return []netip.AddrPort{own} }
	})
	address := in.listenDNS(t)
	if answer, status := dig(t, address, "www.example.net"); status != "SERVFAIL" {
		t.Errorf("%s %q", status, answer)
	}
	if _, err := in.app.sys.DialServer(t.Context(), "udp", "127.0.0.1:53"); err == nil {
		t.Error("the system's resolver may ask this proxy")
	}
}

func TestMessagesThatAreNoQuestionsHaveNoAnswer(t *testing.T) {
	address, _, _ := cluster(t)
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	response, err := (&dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("svc-a.ns.svc.cluster.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range [][]byte{nil, {0}, response, bytes.Repeat([]byte{0xff}, 12), bytes.Repeat([]byte{0xc0}, 600)} {
		c.Write(message)
	}
	query := bytes.Clone(response)
	query[2] &^= 0x80 // QR
	query[0], query[1] = 0x12, 0x34
	two := bytes.Clone(query)
	two[5] = 2 // QDCOUNT
	c.Write(two)
	c.Write(query)
	codes := map[dnsmessage.RCode]int{}
	for range 2 {
		b := make([]byte, 65535)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		var p dnsmessage.Parser
		h, err := p.Start(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		codes[h.RCode]++
	}
	want := map[dnsmessage.RCode]int{dnsmessage.RCodeFormatError: 1, dnsmessage.RCodeSuccess: 1}
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestASlowTCPClientOfTheResolverIsLetGoAtTheEnd(t *testing.T) {
	address, in, _ := cluster(t)
	c := dialTCP(t, address)
	c.Write([]byte{0})
	off := ""
	in.change(t, Change{DNS: &off})
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stays")
	}
	appstest.Eventually(t, "the listener to close", func() bool { return len(in.app.listeners.status()) == 0 })
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}
