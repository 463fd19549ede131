package exit

import (
	"context"
	"errors"
	"net"
	"strings"

	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"

	"golang.org/x/net/dns/dnsmessage"
)

// Records resolves a full name for a user: type A, AAAA, CNAME, SRV or TYPEn. Of the addresses, only those are told that the
// user may be connected to, at whatever port.
func (e *Exit) Records(ctx context.Context, who policy.Asker, name, qtype string) (dns.Records, error) {
	d, err := reach.NewDest(name, 0)
	if err != nil || d.Name == "" {
		return dns.Records{}, answer.Errorf(answer.BadRequest, "%q is not a name", limit.Clip(name))
	}
	d.Full = true
	p := e.policy()
	if err := p.Screen(who, d); err != nil {
		return dns.Records{}, err
	}
	if qtype == "A" || qtype == "AAAA" {
		return e.addresses(ctx, p, who, d, qtype)
	}
	if err := p.PermitName(who, d); err != nil {
		return dns.Records{}, err
	}
	switch qtype {
	case "CNAME":
		return e.canonical(ctx, d)
	case "SRV":
		return e.services(ctx, d)
	}
	if t, ok := dns.CarriedType(qtype); ok {
		return e.raw(ctx, d, t)
	}
	return dns.Records{}, answer.Errorf(answer.BadRequest, "type %q: want A, AAAA, CNAME, SRV or TYPEn", limit.Clip(qtype))
}

func (e *Exit) addresses(ctx context.Context, p *policy.Policy, who policy.Asker, d reach.Dest, qtype string) (dns.Records, error) {
	found, err := e.sys.Resolver.LookupNetIP(ctx, "ip", d.Host())
	if dns.NotFound(err) {
		return dns.Records{Missing: e.sys.IsMissing(ctx, d)}, nil
	}
	if err != nil {
		return dns.Records{}, lookupError(d, err)
	}
	var out dns.Records
	for _, a := range found[:min(len(found), dns.MaxAddresses)] {
		a = a.Unmap()
		if a.Is4() == (qtype == "A") && p.Permit(who, d, a) == nil {
			out.Addrs = append(out.Addrs, a)
		}
	}
	// Without its alias the answer would still be right: an error here is not worth failing for.
	if alias, err := e.canonical(ctx, d); err == nil && len(out.Addrs) > 0 {
		out.CNAME = alias.CNAME
	}
	return out, nil
}

func (e *Exit) canonical(ctx context.Context, d reach.Dest) (dns.Records, error) {
	name, err := e.sys.Resolver.LookupCNAME(ctx, d.Host())
	if dns.NotFound(err) {
		return dns.Records{Missing: e.sys.IsMissing(ctx, d)}, nil
	}
	if err != nil {
		return dns.Records{}, lookupError(d, err)
	}
	if name = plain(name); name == d.Name || reach.CheckName(name) != nil {
		name = ""
	}
	return dns.Records{CNAME: name}, nil
}

func (e *Exit) services(ctx context.Context, d reach.Dest) (dns.Records, error) {
	_, found, err := e.sys.Resolver.LookupSRV(ctx, "", "", d.Host())
	if dns.NotFound(err) {
		// The resolver does not say whether the name is missing or only its service: it may have an address.
		_, err := e.sys.Resolver.LookupNetIP(ctx, "ip", d.Host())
		return dns.Records{Missing: dns.NotFound(err) && e.sys.IsMissing(ctx, d)}, nil
	}
	var partial *net.DNSError // some records were malformed: the others are given with the error
	if err != nil && !(errors.As(err, &partial) && len(found) > 0) {
		return dns.Records{}, lookupError(d, err)
	}
	var out dns.Records
	for _, s := range found[:min(len(found), dns.MaxAddresses)] {
		if target := plain(s.Target); reach.CheckName(target) == nil {
			out.SRV = append(out.SRV, dns.SRV{Priority: s.Priority, Weight: s.Weight, Port: s.Port, Target: target})
		}
	}
	return out, nil
}

// plain returns a name of the DNS as [dest] writes it.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// raw asks the name servers of this exit for the records of a type. The user may know the name.
func (e *Exit) raw(ctx context.Context, d reach.Dest, t dnsmessage.Type) (dns.Records, error) {
	got, err := e.sys.Query(ctx, d, t)
	if err != nil {
		return dns.Records{}, lookupError(d, err)
	}
	rec, err := dns.Carry(got)
	if err != nil {
		return dns.Records{}, answer.Errorf(answer.DNS, "name %s: the answer of the exit's name server cannot be passed on", d.Name)
	}
	return rec, nil
}
