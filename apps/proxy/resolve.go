package proxy

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// Resolver is how names become addresses at this endpoint. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// resolvConf is what a resolv.conf(5) says.
type resolvConf struct {
	search  []string         // domains to append to short names, without dots at either end
	ndots   int              // a name with fewer dots is tried with the search domains first
	servers []netip.AddrPort // name servers
}

const (
	maxSearch     = 16       // domains; libc takes 6, Kubernetes allows 32 and sets 3
	maxResolvConf = 64 << 10 // bytes
	maxNdots      = 15       // as libc
	dnsPort       = 53
)

// readResolvConf reads the file. Where there is none, as on Windows, the answer has nothing in it.
func readResolvConf(path string) resolvConf {
	f, err := os.Open(path)
	if err != nil {
		return resolvConf{ndots: 1}
	}
	defer f.Close()
	return parseResolvConf(io.LimitReader(f, maxResolvConf))
}

func parseResolvConf(r io.Reader) resolvConf {
	conf := resolvConf{ndots: 1}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			// A name server with a zone stays usable: it is this endpoint that talks to it.
			if a, err := netip.ParseAddr(words[1]); err == nil {
				conf.servers = append(conf.servers, netip.AddrPortFrom(a, dnsPort))
			}
		case "search", "domain":
			conf.search = searchList(words[1:])
		case "options":
			for _, o := range words[1:] {
				if n, ok := strings.CutPrefix(o, "ndots:"); ok {
					conf.ndots = ndots(n)
				}
			}
		}
	}
	return conf
}

func searchList(words []string) []string {
	var out []string
	for _, w := range words {
		w = strings.ToLower(strings.Trim(w, "."))
		if reach.CheckName(w) == nil && len(out) < maxSearch {
			out = append(out, w)
		}
	}
	return out
}

func ndots(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 1
	}
	return min(n, maxNdots)
}

// spellings returns the full names that a resolver with this configuration tries for d, in its order
// (resolv.conf(5)): the search domains come first for names with fewer than ndots dots. Every spelling is complete,
// so that what is asked of the resolver is exactly what the policy was asked about.
func (c resolvConf) spellings(d reach.Dest) []reach.Dest {
	literal := reach.Dest{Name: d.Name, Full: true, Port: d.Port}
	if d.Full {
		return []reach.Dest{literal}
	}
	var out []reach.Dest
	for _, domain := range c.search {
		if within := d.Within(domain); len(within.Name) <= reach.MaxName {
			out = append(out, within)
		}
	}
	if strings.Count(d.Name, ".") < c.ndots {
		return append(out, literal)
	}
	return append([]reach.Dest{literal}, out...)
}

// resolve finds the addresses that the user may reach as d. For a name it also returns the spelling that had them.
func (e *exit) resolve(ctx context.Context, user string, d reach.Dest) (reach.Dest, []netip.Addr, error) {
	p := e.policy()
	if d.Name == "" {
		if err := p.Permit(user, d, d.Addr); err != nil {
			return d, nil, err
		}
		return d, []netip.Addr{d.Addr}, nil
	}
	var firstErr error
	for _, full := range readResolvConf(e.sys.ResolvConf).spellings(d) {
		addrs, err := e.lookup(ctx, p, user, full)
		if err == nil {
			return full, addrs, nil
		}
		if answer.CodeOf(err) == answer.Prohibited {
			return d, nil, err // this spelling was meant, and it is excluded: another one is not a way round
		}
		if firstErr == nil || answer.CodeOf(firstErr) == answer.NotFound {
			firstErr = err
		}
	}
	return d, nil, firstErr
}

// lookup resolves one full name and keeps the addresses that the user may reach.
func (e *exit) lookup(ctx context.Context, p *policy.Policy, user string, full reach.Dest) ([]netip.Addr, error) {
	if err := p.Screen(user, full); err != nil {
		return nil, err
	}
	found, err := e.sys.Resolver.LookupNetIP(ctx, "ip", full.Host())
	if err != nil {
		return nil, lookupError(full, err)
	}
	var addrs []netip.Addr
	var refusal *answer.Error
	for _, a := range found[:min(len(found), maxAddresses)] {
		if err := p.Permit(user, full, a); err != nil {
			refusal = err
			continue
		}
		addrs = append(addrs, a.Unmap())
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case refusal != nil:
		return nil, refusal
	}
	return nil, lookupError(full, &net.DNSError{IsNotFound: true})
}

// maxAddresses of one name are considered: more are a mistake or an attack.
const maxAddresses = 64

func lookupError(d reach.Dest, err error) *answer.Error {
	name := cmp.Or(d.Short, d.Name)
	if notFound(err) {
		return answer.Errorf(answer.DNS, "name %s does not resolve at the exit", name)
	}
	// The text of other errors names the exit's own name servers, which are not the peer's business.
	return answer.Errorf(answer.DNS, "name %s: the name server of the exit did not answer", name)
}

// notFound reports an answer of the DNS that says there is no such name, or none of this type.
func notFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}
