package exit

import (
	"cmp"
	"context"
	"net"
	"net/netip"

	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// resolve finds the addresses that the user may reach as d. For a name it also returns the spelling that had them.
func (e *Exit) resolve(ctx context.Context, who policy.Asker, d reach.Dest) (reach.Dest, []netip.Addr, error) {
	p := e.policy()
	if d.Name == "" {
		if err := p.Permit(who, d, d.Addr); err != nil {
			return d, nil, err
		}
		return d, []netip.Addr{d.Addr}, nil
	}
	var firstErr error
	for _, full := range dns.ReadConf(e.sys.ResolvConf).Spellings(d) {
		addrs, err := e.lookup(ctx, p, who, full)
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
func (e *Exit) lookup(ctx context.Context, p *policy.Policy, who policy.Asker, full reach.Dest) ([]netip.Addr, error) {
	if err := p.Screen(who, full); err != nil {
		return nil, err
	}
	found, err := e.sys.Resolver.LookupNetIP(ctx, "ip", full.Host())
	if err != nil {
		return nil, lookupError(full, err)
	}
	var addrs []netip.Addr
	var refusal *answer.Error
	for _, a := range found[:min(len(found), dns.MaxAddresses)] {
		if err := p.Permit(who, full, a); err != nil {
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

func lookupError(d reach.Dest, err error) *answer.Error {
	name := cmp.Or(d.Short, d.Name)
	if dns.NotFound(err) {
		return answer.Errorf(answer.DNS, "name %s does not resolve at the exit", name)
	}
	// The text of other errors names the exit's own name servers, which are not the peer's business.
	return answer.Errorf(answer.DNS, "name %s: the name server of the exit did not answer", name)
}
