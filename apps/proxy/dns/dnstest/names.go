package dnstest

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// Names is a resolver that knows full names, without the last dot. A value is a list of addresses, or "-> NAME".
type Names map[string]string

func (f Names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	text, ok := f[strings.TrimSuffix(host, ".")]
	if alias, is := strings.CutPrefix(text, "-> "); is {
		text, ok = f[alias]
	}
	if !ok || !strings.HasSuffix(host, ".") {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if text == "broken" {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, Server: "10.9.9.9:53"}
	}
	var out []netip.Addr
	for _, a := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func (f Names) LookupCNAME(ctx context.Context, host string) (string, error) {
	if _, err := f.LookupNetIP(ctx, "ip", host); err != nil {
		return "", err
	}
	if alias, is := strings.CutPrefix(f[strings.TrimSuffix(host, ".")], "-> "); is {
		return alias + ".", nil
	}
	return host, nil
}

func (f Names) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	if name != "_http._tcp.svc-a.ns.svc.cluster.local." {
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return name, []*net.SRV{{Target: "svc-a.ns.svc.cluster.local.", Port: 8080, Priority: 1, Weight: 2}}, nil
}
