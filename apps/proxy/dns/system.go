package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"ztm/apps/reach"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver is how names become addresses at this endpoint. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Options replace what the proxy uses of the system it runs on. The zero value is the system itself.
type Options struct {
	Resolver   Resolver // nil is a *net.Resolver
	ResolvConf string   // path of the resolv.conf(5) with the search domains and the name servers; "" is /etc/resolv.conf

	// Dial connects to an address, never a name: network is "tcp" or "udp". nil is [reach.System].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// System is where connections from this endpoint come from.
type System struct {
	Options
	Bound   func() []netip.AddrPort // where this proxy listens itself, for clients and for DNS
	servers servers
}

// NewSystem makes the resolver of this endpoint. bound returns where the proxy listens
// itself.
func NewSystem(o Options, bound func() []netip.AddrPort) *System {
	s := &System{Options: o, Bound: bound}
	if s.Dial == nil {
		s.Dial = reach.System
	}
	if s.ResolvConf == "" {
		s.ResolvConf = "/etc/resolv.conf"
	}
	if s.Resolver == nil {
		s.Resolver = hostsToo{&net.Resolver{Dial: s.DialServer}, &net.Resolver{PreferGo: true, Dial: noServer}}
	}
	return s
}

// hostsToo finds the names of the hosts file that have one label. Names are asked for with a dot at
// their end, so that nothing is appended to them here, and net does not find "nas." where the file has
// "nas".
type hostsToo struct {
	*net.Resolver
	file *net.Resolver // which has no name server to ask
}

func noServer(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }

func (r hostsToo) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if name, full := strings.CutSuffix(host, "."); full && !strings.Contains(name, ".") {
		if found, err := r.file.LookupNetIP(ctx, network, name); err == nil {
			return found, nil
		}
	}
	return r.Resolver.LookupNetIP(ctx, network, host)
}

// Own reports whether the proxy itself listens at an address.
func (s *System) Own(to netip.AddrPort) bool {
	return slices.ContainsFunc(s.Bound(), func(b netip.AddrPort) bool {
		if b.Port() != to.Port() {
			return false
		}
		return b.Addr().Unmap() == to.Addr().Unmap() || b.Addr().IsUnspecified() && isLocal(to.Addr())
	})
}

// isLocal reports whether an address is one of this device.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(i net.Addr) bool {
		n, ok := i.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		return ok && ip.Unmap() == a.Unmap()
	})
}

// nameServers returns the name servers of this device, but not this proxy. They are not known where there is no
// resolv.conf.
func (s *System) nameServers() (_ []netip.AddrPort, known bool) {
	if _, err := os.Stat(s.ResolvConf); err != nil {
		return nil, false
	}
	return slices.DeleteFunc(ReadConf(s.ResolvConf).servers, s.Own), true
}

// Query asks the name servers of this device, over UDP and, after an answer that was cut, over TCP.
func (s *System) Query(ctx context.Context, d reach.Dest, t dnsmessage.Type) ([]byte, error) {
	servers, _ := s.nameServers()
	name, err := dnsmessage.NewName(d.Name + ".")
	if err != nil {
		return nil, err
	}
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: t, Class: dnsmessage.ClassINET}},
	}
	message, err := q.Pack()
	if err != nil {
		return nil, err
	}
	for _, network := range []string{"udp", "tcp"} {
		got, err := s.servers.ask(ctx, servers, message, network, s.Dial)
		var p dnsmessage.Parser
		if h, _ := p.Start(got); err != nil || !h.Truncated {
			return got, err
		}
	}
	return nil, errNoServer // an answer over TCP that was cut
}

// IsMissing reports whether a name does not exist at all. That the resolver finds no address does not say so: a name
// may have records of other types, and a client that hears "no such name" looks for none (RFC 8020). If the name
// servers cannot be asked, or have no answer, it is taken to be missing.
func (s *System) IsMissing(ctx context.Context, d reach.Dest) bool {
	got, err := s.Query(ctx, d, dnsmessage.TypeA)
	var p dnsmessage.Parser
	h, parseErr := p.Start(got)
	return err != nil || parseErr != nil || h.RCode != dnsmessage.RCodeSuccess
}

// NotFound reports an answer of the DNS that says there is no such name, or none of this type.
func NotFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

// maxAddresses of one name are considered: more are a mistake or an attack.
const MaxAddresses = 64
