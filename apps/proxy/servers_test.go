package proxy

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/appstest"
)

// nameServer is a name server over UDP and TCP, on one port, until the end of the test. respond makes the answer to a
// question; nil is silence.
func nameServer(t *testing.T, respond func(dnsmessage.Question) *dnsmessage.Message) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	answer := func(message []byte) []byte {
		asked.Add(1)
		q, err := readQuestion(message)
		if err != nil || len(q.asked) != 1 {
			return nil
		}
		m := respond(q.asked[0])
		if m == nil {
			return nil
		}
		out := *m
		out.ID, out.Response, out.Questions = binary.BigEndian.Uint16(message), true, q.asked
		b, err := out.Pack()
		if err != nil {
			t.Error(err)
		}
		return b
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		buf := make([]byte, maxMessage)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			switch a := answer(buf[:n]); {
			case len(a) > minUDPAnswer:
				cut := dnsmessage.Message{Header: dnsmessage.Header{ID: binary.BigEndian.Uint16(buf), Response: true, Truncated: true}}
				q, _ := readQuestion(buf[:n])
				cut.Questions = q.asked
				b, _ := cut.Pack()
				pc.WriteTo(b, from)
			case a != nil:
				pc.WriteTo(a, from)
			}
		}
	})
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if message, err := readMessage(c); err == nil {
				writeMessage(c, answer(message))
			}
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); pc.Close(); work.Wait() })
	return ln.Addr().String(), asked
}

func failing(code dnsmessage.RCode) func(dnsmessage.Question) *dnsmessage.Message {
	return func(dnsmessage.Question) *dnsmessage.Message {
		return &dnsmessage.Message{Header: dnsmessage.Header{RCode: code}}
	}
}

func silent(dnsmessage.Question) *dnsmessage.Message { return nil }

// zone answers with what is known of example.com, and says no like a server that may be believed.
func zone(q dnsmessage.Question) *dnsmessage.Message {
	m := &dnsmessage.Message{}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 300}
	name := strings.ToLower(q.Name.String())
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: body})
	}
	switch {
	case !strings.HasSuffix(name, "mail.example.com."):
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeTXT:
		add(&dnsmessage.TXTResource{TXT: []string{"v=spf1 -all"}})
	case q.Type == dnsmessage.TypeMX:
		add(&dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("mx.example.com.")})
		glue := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("mx.example.com."), Class: q.Class, Type: dnsmessage.TypeA, TTL: 300}
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: glue, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}})
	case q.Type == dnsmessage.TypeNS:
		add(&dnsmessage.NSResource{NS: dnsmessage.MustNewName("ns.example.com.")})
	case q.Type == 257: // CAA
		add(&dnsmessage.UnknownResource{Type: 257, Data: append([]byte{0, 5}, "issueca.example.net"...)})
	case q.Type == 99:
		for range 20 {
			add(&dnsmessage.UnknownResource{Type: 99, Data: make([]byte, 100)})
		}
	}
	if len(m.Answers) == 0 {
		header.Name, header.Type = dnsmessage.MustNewName("example.com."), dnsmessage.TypeSOA
		m.Authorities = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("ns.example.com."), MBox: dnsmessage.MustNewName("root.example.com."), Serial: 1, MinTTL: 60,
		}}}
	}
	return m
}

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
	server, _ := nameServer(t, zone)
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
	good, _ := nameServer(t, zone)
	for _, code := range []dnsmessage.RCode{dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented} {
		bad, asked := nameServer(t, failing(code))
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

func TestWithoutABetterServerTheFailureIsTold(t *testing.T) {
	bad, _ := nameServer(t, failing(dnsmessage.RCodeRefused))
	mute, _ := nameServer(t, silent)
	var s servers
	list := []netip.AddrPort{netip.MustParseAddrPort(bad), netip.MustParseAddrPort(mute)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*serverDelay)
	defer cancel()
	answer, err := s.ask(ctx, list, txtQuestion(t), "udp", new(net.Dialer).DialContext)
	var p dnsmessage.Parser
	if h, parseErr := p.Start(answer); err != nil || parseErr != nil || h.RCode != dnsmessage.RCodeRefused {
		t.Errorf("%+v, %v, %v", h, err, parseErr)
	}
}

func txtQuestion(t *testing.T) []byte {
	t.Helper()
	b, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("mail.example.com."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET,
	}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAMuteServerIsAskedLastForAWhile(t *testing.T) {
	mute, asked := nameServer(t, silent)
	good, _ := nameServer(t, zone)
	var s servers
	list := []netip.AddrPort{netip.MustParseAddrPort(mute), netip.MustParseAddrPort(good)}
	for range 3 {
		if _, err := s.ask(t.Context(), list, txtQuestion(t), "udp", new(net.Dialer).DialContext); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the mute server was asked %d times", n)
	}
	if got := s.order(list); !slices.Equal(got, []netip.AddrPort{list[1], list[0]}) {
		t.Errorf("order %v", got)
	}
	s.heard(list[0], true)
	if got := s.order(list); !slices.Equal(got, list) {
		t.Errorf("order after it answered: %v", got)
	}
}

// The resolver of the Go library is asked for addresses; it would wait for a mute server for as long as a question may
// take.
func TestAMuteServerDoesNotMakeEveryQuestionFail(t *testing.T) {
	mute, asked := nameServer(t, silent)
	good, _ := nameServer(t, func(q dnsmessage.Question) *dnsmessage.Message {
		m := &dnsmessage.Message{}
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 300}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 80}},
			}}
		}
		return m
	})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
	sys := newSystem(Options{ResolvConf: conf, Dial: dialTo(map[string]string{"192.0.2.1:53": mute, "192.0.2.2:53": good})}, func() []netip.AddrPort { return nil })
	sys.Resolver.(*net.Resolver).PreferGo = true
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), dnsTimeout)
		addrs, err := sys.Resolver.LookupNetIP(ctx, "ip", "www.example.com.")
		cancel()
		if err != nil || len(addrs) != 1 {
			t.Fatalf("%v, %v", addrs, err)
		}
	}
	before := asked.Load()
	if addrs, err := sys.Resolver.LookupNetIP(t.Context(), "ip", "www.example.com."); err != nil || len(addrs) != 1 {
		t.Fatalf("%v, %v", addrs, err)
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("the mute server, known as such, was asked %d times first", n)
	}
}

// FuzzCarried: what an exit says makes a well-formed answer to the question, or none.
func FuzzCarried(f *testing.F) {
	m := zone(dnsmessage.Question{Name: dnsmessage.MustNewName("mail.example.com."), Type: dnsmessage.TypeMX, Class: dnsmessage.ClassINET})
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, message []byte) {
		q := question{size: minUDPAnswer, asked: []dnsmessage.Question{{Name: dnsmessage.MustNewName("mail.example.com."), Type: dnsmessage.TypeMX, Class: dnsmessage.ClassINET}}}
		a := q.reply(records{Message: message}, dnsmessage.RCodeSuccess, "udp")
		var m dnsmessage.Message
		if err := m.Unpack(a); a != nil && (err != nil || len(a) > minUDPAnswer || !m.Response) {
			t.Fatalf("%x becomes %x: %v", message, a, err)
		}
	})
}

// slowNames is a resolver that never answers for names that begin with "slow".
type slowNames struct{ fakeNames }

func (s slowNames) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if strings.HasPrefix(host, "slow") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.fakeNames.LookupNetIP(ctx, network, host)
}

func TestOneClientDoesNotTakeThePlacesOfAnother(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the loopback device has one address here")
	}
	in, out := pair(t, Options{Resolver: slowNames{fakeNames{"quick.example.com": "10.1.1.1"}}}, "*.example.com")
	dns := in.listenDNS(t)
	c, err := net.Dial("udp", dns)
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
		for range maxQuestions {
			c.Write(question)
		}
		return flowsOf(out, in) >= maxQuestions
	})
	if answer, status := dig(t, dns, "-b", "127.0.0.2", "quick.example.com"); len(answer) != 1 {
		t.Errorf("another client: %s %q", status, answer)
	}
}
