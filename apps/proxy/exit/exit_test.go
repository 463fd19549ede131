package exit

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// config is what a policy is made of.
type config struct {
	Targets, Exclusions []string
	Rules               []policy.Rule
}

// testPolicy reads a policy of alice's.
func testPolicy(t *testing.T, c config) *policy.Policy {
	t.Helper()
	p, err := policy.New("alice", c.Targets, c.Exclusions, c.Rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allow(user string, targets ...string) policy.Rule {
	return policy.Rule{Users: []string{user}, Targets: targets, Action: "allow"}
}

func deny(user string, targets ...string) policy.Rule {
	return policy.Rule{Users: []string{user}, Targets: targets, Action: "deny"}
}

func TestPermit(t *testing.T) {
	names := dnstest.Names{
		"db.corp": "10.0.0.5", "evil.corp": "127.0.0.1", "meta.corp": "169.254.169.254", "mapped.corp": "::ffff:127.0.0.1",
		"zero.corp": "0.0.0.0", "secret.corp": "10.9.0.1", "mixed.corp": "10.9.0.1 10.0.0.6", "nat64.corp": "64:ff9b::7f00:1",
		"sixto4.corp": "2002:a09:1::1", "compat.corp": "::10.9.0.1", "loop6.corp": "::1", "localhost": "127.0.0.1", "multi.corp": "224.0.0.1",
		"broken.corp": "broken", "empty.corp": "",
	}
	served := config{Targets: []string{"*.corp", "10.0.0.0/8"}, Exclusions: []string{"10.9.0.0/16", "hidden.corp", "db.corp:22"}}
	everything := config{Targets: []string{"*", "0.0.0.0/0", "::/0"}}
	named := config{Targets: []string{"*", "127.0.0.1:8080", "localhost:9090", "169.254.169.0/24", "[::1]:80"}}
	rules := config{Targets: []string{"*.corp", "10.0.0.0/8"}, Rules: []policy.Rule{
		deny("bob", "10.0.0.5"), allow("bob", "*.corp:80-443"), allow("carol", "10.0.0.0/16"), deny("alice", "10.0.0.6:22"), deny("*", "*:25"), allow("dora", "*"),
	}}
	nat64 := config{Targets: []string{"*"}, Rules: []policy.Rule{deny("bob", "10.0.0.5"), allow("bob", "*")}}
	for _, tt := range []struct {
		name   string
		config config
		user   string
		dest   string
		want   answer.Code
	}{
		{"own user, served name", served, "alice", "db.corp:80", ""},
		{"own user, served address", served, "alice", "10.0.0.5:80", ""},
		{"another spelling of the address", served, "alice", "[::ffff:10.0.0.5]:80", ""},
		{"name that is not served", served, "alice", "db.other:80", answer.DNS},
		{"address that is not served", served, "alice", "11.0.0.5:80", answer.NotFound},
		{"name that is missing", served, "alice", "nobody.corp:80", answer.DNS},
		{"name server that fails", served, "alice", "broken.corp:80", answer.DNS},
		{"name without addresses", served, "alice", "empty.corp:80", answer.DNS},
		{"excluded name", served, "alice", "hidden.corp:80", answer.Prohibited},
		{"excluded port", served, "alice", "db.corp:22", answer.Prohibited},
		{"excluded address", served, "alice", "10.9.0.1:80", answer.Prohibited},
		{"name that leads to an excluded address", served, "alice", "secret.corp:80", answer.Prohibited},
		{"name with one excluded address of two", served, "alice", "mixed.corp:80", ""},
		{"name that leads to loopback", served, "alice", "evil.corp:80", answer.Prohibited},
		{"name that leads to mapped loopback", served, "alice", "mapped.corp:80", answer.Prohibited},
		{"name that leads to IPv6 loopback", served, "alice", "loop6.corp:80", answer.Prohibited},
		{"name that leads to metadata", served, "alice", "meta.corp:80", answer.Prohibited},
		{"name that leads to 0.0.0.0", served, "alice", "zero.corp:80", answer.Prohibited},
		{"name that leads to a group", served, "alice", "multi.corp:80", answer.Prohibited},
		{"NAT64 of loopback", served, "alice", "nat64.corp:80", answer.Prohibited},
		{"6to4 of an excluded address", served, "alice", "sixto4.corp:80", answer.Prohibited},
		{"compatible form of an excluded address", served, "alice", "compat.corp:80", answer.Prohibited},

		{"everything is not loopback", everything, "alice", "127.0.0.1:80", answer.Prohibited},
		{"everything is not IPv6 loopback", everything, "alice", "[::1]:80", answer.Prohibited},
		{"everything is not localhost", everything, "alice", "localhost:80", answer.Prohibited},
		{"everything is not link-local", everything, "alice", "169.254.169.254:80", answer.Prohibited},
		{"everything is not 0.0.0.0", everything, "alice", "0.0.0.0:80", answer.Prohibited},
		{"everything is not ::", everything, "alice", "[::]:80", answer.Prohibited},
		{"everything is not AWS's metadata", everything, "alice", "[fd00:ec2::254]:80", answer.Prohibited},
		{"everything is not AWS's credentials of pods", everything, "alice", "[fd00:ec2::23]:80", answer.Prohibited},
		{"everything is not Google's metadata", everything, "alice", "[fd20:ce::254]:80", answer.Prohibited},
		{"everything is not Oracle's metadata", everything, "alice", "[fd00:c1::a9fe:a9fe]:80", answer.Prohibited},
		{"everything is not Oracle's old metadata", everything, "alice", "192.0.0.192:80", answer.Prohibited},
		{"everything is not Scaleway's metadata", everything, "alice", "[fd00:42::42]:80", answer.Prohibited},
		{"everything is not Alibaba's metadata", everything, "alice", "100.100.100.200:80", answer.Prohibited},
		{"everything is not Azure's host agent", everything, "alice", "168.63.129.16:80", answer.Prohibited},
		{"everything is not site-local", everything, "alice", "[fec0::1]:80", answer.Prohibited},
		{"NAT64 of metadata", everything, "alice", "[64:ff9b::a9fe:a9fe]:80", answer.Prohibited},
		{"NAT64 of Azure's host agent", everything, "alice", "[64:ff9b::a83f:8110]:80", answer.Prohibited},
		{"local NAT64 of metadata, 48 bits", everything, "alice", "[64:ff9b:1:a9fe:a9:fe00::]:80", answer.Prohibited},
		{"local NAT64 of metadata, 56 bits", everything, "alice", "[64:ff9b:1:a9:fe:a9fe::]:80", answer.Prohibited},
		{"local NAT64 of metadata, 64 bits", everything, "alice", "[64:ff9b:1:0:a9:fea9:fe00:0]:80", answer.Prohibited},
		{"local NAT64 of metadata, 96 bits", everything, "alice", "[64:ff9b:1::a9fe:a9fe]:80", answer.Prohibited},
		{"local NAT64 of another address", everything, "alice", "[64:ff9b:1::808:808]:80", ""},
		{"SIIT of metadata", everything, "alice", "[::ffff:0:a9fe:a9fe]:80", answer.Prohibited},
		{"ISATAP of metadata", everything, "alice", "[2001:db8::5efe:a9fe:a9fe]:80", answer.Prohibited},
		{"ISATAP of metadata, universal", everything, "alice", "[2001:db8::200:5efe:a9fe:a9fe]:80", answer.Prohibited},
		{"6to4 of metadata", everything, "alice", "[2002:a9fe:a9fe::1]:80", answer.Prohibited},
		{"Teredo with metadata as its client", everything, "alice", "[2001:0:808:808:0:0:5601:5601]:80", answer.Prohibited},
		{"Teredo with loopback as its server", everything, "alice", "[2001:0:7f00:1:0:0:f7f7:f7f7]:80", answer.Prohibited},
		{"everything is a neighbour of metadata", everything, "alice", "100.100.100.201:80", ""},
		{"everything is NAT64 of the rest", everything, "alice", "[64:ff9b::808:808]:80", ""},
		{"everything is other local addresses", everything, "alice", "[fd00:ec3::254]:80", ""},
		{"everything is the rest", everything, "alice", "8.8.8.8:53", ""},

		{"named loopback", named, "alice", "127.0.0.1:8080", ""},
		{"named loopback at another port", named, "alice", "127.0.0.1:8081", answer.Prohibited},
		{"other loopback", named, "alice", "127.0.0.2:8080", answer.Prohibited},
		{"name that leads to named loopback", named, "alice", "evil.corp:8080", ""},
		{"localhost by name", named, "alice", "localhost:9090", ""},
		{"name that leads to the loopback of localhost", named, "alice", "evil.corp:9090", answer.Prohibited},
		{"named link-local", named, "alice", "169.254.169.254:80", ""},
		{"named IPv6 loopback", named, "alice", "[::1]:80", ""},

		{"another user, by default", served, "bob", "db.corp:80", answer.Denied},
		{"a user without a name", served, "", "db.corp:80", answer.Denied},
		{"a denied address inside another one", nat64, "bob", "[64:ff9b::a00:5]:80", answer.Denied},
		{"an address beside it inside another one", nat64, "bob", "[64:ff9b::a00:6]:80", ""},
		{"a denied address before an allowed name", rules, "bob", "db.corp:80", answer.Denied},
		{"an allowed name", rules, "bob", "mixed.corp:80", ""},
		{"an allowed name at another port", rules, "bob", "mixed.corp:8080", answer.Denied},
		{"an allowed address, by name", rules, "carol", "db.corp:80", ""},
		{"another address, by name", rules, "carol", "secret.corp:80", answer.Denied},
		{"own user, denied", rules, "alice", "10.0.0.6:22", answer.Denied},
		{"own user, not denied", rules, "alice", "10.0.0.6:23", ""},
		{"everybody denied", rules, "alice", "db.corp:25", answer.Denied},
		{"everybody denied before one is allowed", rules, "dora", "db.corp:25", answer.Denied},
		{"one is allowed", rules, "dora", "db.corp:26", ""},
		{"user names are exact", rules, "Dora", "db.corp:26", answer.Denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := testPolicy(t, tt.config)
			e := New(func() *policy.Policy { return p }, nil, &dns.System{Options: dns.Options{Resolver: names, ResolvConf: os.DevNull}}, slog.New(slog.DiscardHandler))
			d, err := reach.ParseDest(tt.dest)
			if err != nil {
				t.Fatal(err)
			}
			_, addrs, err := e.resolve(context.Background(), policy.User(tt.user), d)
			if got := answer.CodeOf(err); got != tt.want {
				t.Errorf("%s for %s: %q (%v, %v), want %q", tt.dest, tt.user, got, err, addrs, tt.want)
			}
			if tt.dest == "mixed.corp:80" && tt.user == "alice" {
				if diff := cmp.Diff([]string{"10.0.0.6"}, addrTexts(addrs)); diff != "" {
					t.Errorf("addresses (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func addrTexts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func TestNothingIsResolvedForAUserWhoMayNothing(t *testing.T) {
	p := testPolicy(t, config{Targets: []string{"*"}, Rules: []policy.Rule{allow("carol", "db.corp"), deny("eve", "*"), allow("eve", "10.0.0.0/8")}})
	e := New(func() *policy.Policy { return p }, nil, &dns.System{Options: dns.Options{Resolver: untouchable{t}, ResolvConf: os.DevNull}}, slog.New(slog.DiscardHandler))
	for _, user := range []string{"bob", "eve", "carol"} {
		d, _ := reach.ParseDest("other.corp:80")
		if _, _, err := e.resolve(context.Background(), policy.User(user), d); answer.CodeOf(err) != answer.Denied {
			t.Errorf("%s: %v", user, err)
		}
	}
}

// untouchable is a resolver that must not be asked.
type untouchable struct{ t *testing.T }

func (u untouchable) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	u.t.Error("a name was resolved")
	return nil, nil
}
func (u untouchable) LookupCNAME(context.Context, string) (string, error) { return "", nil }
func (u untouchable) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, nil
}

func TestAnExitTellsAUserWhatHeMayReach(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver 10.43.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local office.example.net\noptions ndots:5\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testPolicy(t, config{
		Targets:    []string{"*.svc.cluster.local", "10.43.0.0/16", "secret.example.com"},
		Exclusions: []string{"10.43.0.1"},
		Rules:      []policy.Rule{deny("bob", "10.43.0.0/16"), allow("bob", "*:443"), allow("carol", "10.43.7.0/24")},
	})
	e := New(func() *policy.Policy { return p }, nil, &dns.System{Options: dns.Options{ResolvConf: conf}}, slog.New(slog.DiscardHandler))
	search := []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local"}
	for _, tt := range []struct {
		user string
		want Advertised
	}{
		{"alice", Advertised{[]string{"*.svc.cluster.local", "10.43.0.0/16", "secret.example.com"}, []string{"10.43.0.1"}, search}},
		{"bob", Advertised{[]string{"*.svc.cluster.local:443", "secret.example.com:443"}, []string{"10.43.0.1"}, search}},
		{"carol", Advertised{[]string{"*.svc.cluster.local", "10.43.7.0/24", "secret.example.com"}, []string{"10.43.0.1"}, search}},
	} {
		got, err := e.Advertise(policy.User(tt.user))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("to %s (-want +got):\n%s", tt.user, diff)
		}
	}
	if got, err := e.Advertise(policy.User("eve")); answer.CodeOf(err) != answer.Denied {
		t.Errorf("to eve: %v, %v; want a refusal", got, err)
	}
}
