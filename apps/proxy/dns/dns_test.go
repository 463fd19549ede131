package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/apps/reach"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestWithoutABetterServerTheFailureIsTold(t *testing.T) {
	appstest.Long(t)
	bad, _ := dnstest.Serve(t, dnstest.Failing(dnsmessage.RCodeRefused))
	mute, _ := dnstest.Serve(t, dnstest.Silent)
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

func TestNamesOfTheHostsFileMayHaveOneLabel(t *testing.T) {
	file, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	var name string
	for line := range strings.Lines(string(file)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 && !strings.Contains(f[1], ".") {
			name = f[1]
		}
	}
	if name == "" {
		t.Skip("the hosts file of this machine has no such name")
	}
	s := NewSystem(Options{Dial: noServer}, func() []netip.AddrPort { return nil })
	if found, err := s.Resolver.LookupNetIP(t.Context(), "ip", name+"."); err != nil || len(found) == 0 {
		t.Errorf("%s: %v, %v", name, found, err)
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
	appstest.Long(t)
	mute, asked := dnstest.Serve(t, dnstest.Silent)
	good, _ := dnstest.Serve(t, dnstest.Zone)
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
	appstest.Long(t)
	mute, asked := dnstest.Serve(t, dnstest.Silent)
	good, _ := dnstest.Serve(t, dnstest.Address([4]byte{192, 0, 2, 80}))
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	servers := map[string]string{"192.0.2.1:53": mute, "192.0.2.2:53": good}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, servers[address])
	}
	sys := NewSystem(Options{ResolvConf: conf, Dial: dial}, func() []netip.AddrPort { return nil })
	sys.Resolver.(hostsToo).PreferGo = true
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), Timeout)
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

// A client gets the records that the exit's name server has, of whatever type.
func TestRecordsOfEveryTypeThatIsCarriedReachTheClient(t *testing.T) {
	name := dnsmessage.MustNewName("example.com.")
	for kind, body := range map[dnsmessage.Type]dnsmessage.ResourceBody{
		dnsmessage.TypeTXT: &dnsmessage.TXTResource{TXT: []string{"x"}}, dnsmessage.TypeMX: &dnsmessage.MXResource{MX: name},
		dnsmessage.TypeNS: &dnsmessage.NSResource{NS: name}, dnsmessage.TypePTR: &dnsmessage.PTRResource{PTR: name},
		dnsmessage.TypeSOA:   &dnsmessage.SOAResource{NS: name, MBox: name},
		dnsmessage.TypeHTTPS: &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 1, Target: name}},
		dnsmessage.TypeSVCB:  &dnsmessage.SVCBResource{Priority: 1, Target: name},
		257:                  &dnsmessage.UnknownResource{Type: 257, Data: []byte{0, 5}}, // CAA
	} {
		asked := dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET}
		got, err := (&dnsmessage.Message{
			Header: dnsmessage.Header{Response: true}, Questions: []dnsmessage.Question{asked},
			Answers: []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}, Body: body}},
		}).Pack()
		if err != nil {
			t.Fatal(err)
		}
		rec, err := Carry(got)
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		var m dnsmessage.Message
		reply := question{size: minUDPAnswer, asked: []dnsmessage.Question{asked}}.reply(rec, dnsmessage.RCodeSuccess, "udp")
		if err := m.Unpack(reply); err != nil || len(m.Answers) != 1 || m.Answers[0].Header.Type != kind || m.Answers[0].Header.TTL != 60 {
			t.Errorf("%v: %v, %v", kind, m.Answers, err)
		}
	}
}

// FuzzCarried: what an exit says makes a well-formed answer to the question, or none.
func FuzzCarried(f *testing.F) {
	m := dnstest.Zone(dnsmessage.Question{Name: dnsmessage.MustNewName("mail.example.com."), Type: dnsmessage.TypeMX, Class: dnsmessage.ClassINET})
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, message []byte) {
		q := question{size: minUDPAnswer, asked: []dnsmessage.Question{{Name: dnsmessage.MustNewName("mail.example.com."), Type: dnsmessage.TypeMX, Class: dnsmessage.ClassINET}}}
		a := q.reply(Records{Message: message}, dnsmessage.RCodeSuccess, "udp")
		var m dnsmessage.Message
		if err := m.Unpack(a); a != nil && (err != nil || len(a) > minUDPAnswer || !m.Response) {
			t.Fatalf("%x becomes %x: %v", message, a, err)
		}
	})
}

// FuzzDNS: any message has a well-formed answer to the same question, or none.
func FuzzDNS(f *testing.F) {
	good := question{asked: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example."), Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET}}, edns: true}
	b := good.reply(Records{}, dnsmessage.RCodeSuccess, "udp")
	b[2] &^= 0x80
	f.Add(b, true)
	f.Add([]byte(strings.Repeat("\xc0\x0c", 10)), false)
	rec := Records{CNAME: "b.example", SRV: []SRV{{1, 2, 3, "c.example"}}}
	for i := range MaxAddresses {
		rec.Addrs = append(rec.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}))
	}
	f.Fuzz(func(t *testing.T, message []byte, udp bool) {
		network := "tcp"
		if udp {
			network = "udp"
		}
		q, err := readQuestion(message)
		if err != nil {
			return
		}
		a := q.reply(rec, q.code, network)
		if a == nil {
			return
		}
		if udp && len(a) > maxUDPAnswer {
			t.Fatalf("a datagram of %d bytes", len(a))
		}
		var p dnsmessage.Parser
		h, err := p.Start(a)
		if err != nil || !h.Response || h.ID != binary.BigEndian.Uint16(message) {
			t.Fatalf("header %+v, %v", h, err)
		}
		if len(q.asked) > 0 && !sameQuestion(message, a) {
			t.Fatalf("another question: %x", a)
		}
		if err := errors.Join(p.SkipAllQuestions(), p.SkipAllAnswers(), p.SkipAllAuthorities(), p.SkipAllAdditionals()); err != nil {
			t.Fatalf("%v in %x", err, a)
		}
	})
}

func TestANameIsAskedAsItWillBeChecked(t *testing.T) {
	for _, tt := range []struct {
		conf string
		name string
		want []string
	}{
		{"", "a", []string{"a."}},
		{"search x y.z", "a", []string{"a.x.", "a.y.z.", "a."}},
		{"search x y.z", "a.b", []string{"a.b.", "a.b.x.", "a.b.y.z."}},
		{"search x\noptions edns0 ndots:2", "a.b", []string{"a.b.x.", "a.b."}},
		{"search x\noptions ndots:0", "a", []string{"a.", "a.x."}},
		{"search x\nsearch y\noptions ndots:-1", "a", []string{"a.y.", "a."}},
		{"domain d.", "a", []string{"a.d.", "a."}},
		{"search x", "a.", []string{"a."}},
		{"search . .. a..b 1 X", "a", []string{"a.x.", "a."}},
		{"search " + strings.Repeat("x ", 100), "a", append(slices.Repeat([]string{"a.x."}, maxSearch), "a.")},
		{"search " + strings.Repeat("x.", 120) + "x", strings.Repeat("a", 60), []string{strings.Repeat("a", 60) + "."}},
	} {
		d, err := reach.NewDest(tt.name, 80)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range ParseConf(strings.NewReader(tt.conf)).Spellings(d) {
			got = append(got, s.Host())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s with %.40q (-want +got):\n%s", tt.name, tt.conf, diff)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nsearch a.example. B.example\noptions ndots:5 x\n", "www")
	f.Add("search .\ndomain a..b\noptions ndots:-1\nnameserver fe80::1%eth0", "a.b.c")
	f.Fuzz(func(t *testing.T, text, name string) {
		c := ParseConf(strings.NewReader(text))
		if len(c.Search) > maxSearch || c.ndots < 0 || c.ndots > maxNdots {
			t.Fatalf("%q is read as %+v", text, c)
		}
		for _, s := range c.servers {
			if !s.IsValid() || s.Port() != dnsPort {
				t.Errorf("%q names the server %v", text, s)
			}
		}
		d, err := reach.ParseDest(name + ":53")
		if err != nil || d.Name == "" {
			return
		}
		for _, s := range c.Spellings(d) {
			if !s.Full || len(s.Name) > reach.MaxName || reach.CheckName(s.Name) != nil {
				t.Errorf("%q is spelled %+v by %q", name, s, text)
			}
		}
	})
}
