package proxy

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/appstest"
	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/dns/dnstest"
)

// resolving is an exit that serves *.example.com and has these name servers, and an entrance that answers DNS.
func resolving(t *testing.T, addresses ...string) (dns string, out *endpoint) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text, to := "", map[string]string{}
	for i, a := range addresses {
		server := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String()
		text += "nameserver " + server + "\n"
		to[server+":53"] = a
	}
	write(t, conf, text)
	in, out := pair(t, Options{ResolvConf: conf, Dial: dialTo(to)}, "*.example.com")
	return in.listenDNS(t), out
}

func TestRecordsOfAllTypesComeFromTheExit(t *testing.T) {
	appstest.Long(t)
	server, _ := dnstest.Serve(t, dnstest.Zone)
	dns, _ := resolving(t, server)
	const soa = "example.com. 300 IN SOA ns.example.com. root.example.com. 1 0 0 0 60"
	for _, tt := range []struct {
		args   string
		answer []string
		status string
	}{
		{"mail.example.com TXT", []string{`mail.example.com. 300 IN TXT "v=spf1 -all"`}, "NOERROR"},
		{"+noedns mail.example.com TXT", []string{`mail.example.com. 300 IN TXT "v=spf1 -all"`}, "NOERROR"},
		{"mail.example.com MX", []string{"mail.example.com. 300 IN MX 10 mx.example.com."}, "NOERROR"}, // without addresses
		{"mail.example.com NS", []string{"mail.example.com. 300 IN NS ns.example.com."}, "NOERROR"},
		{"mail.example.com CAA", []string{`mail.example.com. 300 IN CAA 0 issue "ca.example.net"`}, "NOERROR"},
		{"mail.example.com HTTPS", []string{soa}, "NOERROR"},
		{"nobody.example.com TXT", []string{soa}, "NXDOMAIN"},
		{"nobody.example.com A", nil, "NXDOMAIN"},
		{"mail.example.com A", nil, "NOERROR"}, // no address, but other records
		{"mail.example.com CNAME", nil, "NOERROR"},
		{"_sip._tcp.mail.example.com SRV", nil, "NOERROR"},
		{"mail.example.com ANY", nil, "NOTIMP"},
		{"mail.example.com MINFO", nil, "NOTIMP"},
	} {
		answer, status := dig(t, dns, append([]string{"+notcp"}, strings.Fields(tt.args)...)...)
		if diff := cmp.Diff(tt.answer, answer); diff != "" || status != tt.status {
			t.Errorf("dig %s: %s, want %s (-want +got):\n%s", tt.args, status, tt.status, diff)
		}
	}
	if answer, _ := dig(t, dns, "mail.example.com", "TYPE99"); len(answer) != 20 { // cut at the exit, and here
		t.Errorf("%d of 20 large records", len(answer))
	}
}

func TestAServerThatFailsIsNotTheLast(t *testing.T) {
	good, _ := dnstest.Serve(t, dnstest.Zone)
	for _, code := range []dnsmessage.RCode{dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented} {
		bad, asked := dnstest.Serve(t, dnstest.Failing(code))
		dns, _ := resolving(t, bad, good)
		if answer, status := dig(t, dns, "mail.example.com", "TXT"); len(answer) != 1 || asked.Load() == 0 {
			t.Errorf("served, after %v: %s %q", code, status, answer)
		}
		conf := filepath.Join(t.TempDir(), "resolv.conf")
		write(t, conf, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
		var n appstest.Net
		in := join(t, &n, "in", "alice", Options{ResolvConf: conf, Dial: dialTo(map[string]string{"192.0.2.1:53": bad, "192.0.2.2:53": good})})
		for _, network := range []string{"+tcp", "+notcp"} {
			if answer, status := dig(t, in.listenDNS(t), network, "mail.example.com", "TXT"); len(answer) != 1 {
				t.Errorf("forwarded, after %v: %s %q", code, status, answer)
			}
		}
	}
}

// slowNames is a resolver that never answers for names that begin with "slow".
type slowNames struct{ dnstest.Names }

func (s slowNames) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if strings.HasPrefix(host, "slow") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Names.LookupNetIP(ctx, network, host)
}

func TestOneClientDoesNotTakeThePlacesOfAnother(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the loopback device has one address here")
	}
	in, out := pair(t, Options{Resolver: slowNames{dnstest.Names{"quick.example.com": "10.1.1.1"}}}, "*.example.com")
	address := in.listenDNS(t)
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	slow := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("slow.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	question, err := slow.Pack()
	if err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "all places to be taken", func() bool {
		for range dns.MaxQuestions {
			c.Write(question)
		}
		return flowsOf(out, in) >= dns.MaxQuestions
	})
	if answer, status := dig(t, address, "-b", "127.0.0.2", "quick.example.com"); len(answer) != 1 {
		t.Errorf("another client: %s %q", status, answer)
	}
}
