package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"ztm/apps/listen"
	"ztm/apps/proxy/policy"
	"ztm/apps/proxy/route"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Config is what the owner of an endpoint has set. It is kept in the agent's database and shown by the API. The zero
// value listens nowhere and is no exit.
type Config struct {
	Listens    []string      `json:"listens,omitempty"`    // "ip:port" or "unix:/path"
	Targets    []string      `json:"targets,omitempty"`    // patterns: what this exit serves
	Exclusions []string      `json:"exclusions,omitempty"` // patterns: what it does not serve after all
	Rules      []policy.Rule `json:"rules,omitempty"`      // who may use it
	Routes     []Route       `json:"routes,omitempty"`     // where the clients here leave the mesh, by pattern
	Trust      []string      `json:"trust,omitempty"`      // users, beside the own one, whose exits are chosen by themselves
	Default    string        `json:"default,omitempty"`    // without an exit: "refuse" (also "") or "direct"
	DNS        string        `json:"dns,omitempty"`        // "ip:port" to answer DNS on; "" is off
}

// Route sends what matches a pattern to one exit, or out from here. The most specific matching route decides, before
// any choice among exits.
type Route struct {
	Pattern string      `json:"pattern"`
	Exit    identity.ID `json:"exit,omitempty"` // "" is no exit: connect from here
}

// inForce is a Config that was checked. It does not change.
type inForce struct {
	listens []listenAddr
	exit    *policy.Policy // of flows from peers
	direct  *policy.Policy // of clients that leave from here
	routing *route.Table
	dns     listenAddr // zero if off
}

const (
	refuse    = "refuse"
	direct    = "direct"
	maxListed = 4096 // entries of each list of a Config
)

// read checks the configuration of an endpoint of the user owner.
func (c Config) read(owner string) (*inForce, error) {
	for _, n := range []int{len(c.Listens), len(c.Targets), len(c.Exclusions), len(c.Rules), len(c.Routes), len(c.Trust)} {
		if n > maxListed {
			return nil, fmt.Errorf("a list has more than %d entries", maxListed)
		}
	}
	exit, err := policy.New(owner, c.Targets, c.Exclusions, c.Rules)
	if err != nil {
		return nil, err
	}
	s := &inForce{exit: exit, direct: &policy.Policy{Owner: owner}, routing: &route.Table{Owner: owner, Trust: c.Trust}}
	for _, step := range []func(*inForce) error{c.readListens, c.readRoutes} {
		if err := step(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c Config) readListens(s *inForce) error {
	for _, text := range c.Listens {
		l, err := parseListen(text)
		if err != nil {
			return err
		}
		s.listens = append(s.listens, l)
	}
	if c.DNS == "" {
		return nil
	}
	l, err := parseListen(c.DNS)
	if err != nil || l.network == "unix" {
		return fmt.Errorf("DNS address %q: want [ip:]port", limit.Clip(c.DNS))
	}
	s.dns = l
	return nil
}

func (c Config) readRoutes(s *inForce) error {
	for _, r := range c.Routes {
		p, err := reach.ParsePattern(r.Pattern)
		if err != nil {
			return err
		}
		s.routing.Routes = append(s.routing.Routes, route.Route{Pattern: p, Exit: r.Exit})
		if r.Exit == "" {
			s.direct.Targets = append(s.direct.Targets, p)
		}
	}
	switch c.Default {
	case direct:
		s.routing.Open = true
		s.direct.Targets = append(s.direct.Targets, reach.Pattern{Any: true})
	case refuse, "":
	default:
		return fmt.Errorf("default %q: want %s or %s", limit.Clip(c.Default), refuse, direct)
	}
	return nil
}

// text returns c, of which s was read, with everything written in the one way.
func (s *inForce) text(c Config) Config {
	c.Listens = c.Listens[:0:0]
	for _, l := range s.listens {
		c.Listens = append(c.Listens, l.String())
	}
	c.Targets, c.Exclusions, c.Rules = reach.Texts(s.exit.Targets), reach.Texts(s.exit.Exclusions), s.exit.Rules()
	c.Routes = nil
	for _, r := range s.routing.Routes {
		c.Routes = append(c.Routes, Route{Pattern: r.Pattern.String(), Exit: r.Exit})
	}
	c.DNS = s.dns.String() // "" if off
	return c
}

// listenAddr is where clients connect to: "tcp4" or "tcp" and an ip:port, or "unix" and an absolute path.
type listenAddr struct{ network, address string }

func (l listenAddr) String() string {
	if l.network == "unix" {
		return "unix:" + l.address
	}
	return l.address
}

// port returns the port, 0 for a unix socket.
func (l listenAddr) port() uint16 {
	ap, _ := netip.ParseAddrPort(l.address)
	return ap.Port()
}

// parseListen reads "port", "ip:port", "[ip]:port" or "unix:/path". A port alone listens on 127.0.0.1; port 0 lets the
// system choose.
func parseListen(s string) (listenAddr, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) || len(path) > listen.MaxPath {
			return listenAddr{}, fmt.Errorf("listen %q: want an absolute path of at most %d bytes", limit.Clip(s), listen.MaxPath)
		}
		return listenAddr{"unix", filepath.Clean(path)}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = "127.0.0.1", s
	} else if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, addrErr := netip.ParseAddr(host)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if addrErr != nil || portErr != nil {
		return listenAddr{}, fmt.Errorf("listen %q: want [ip:]port (0.0.0.0:port for all addresses) or unix:/path", limit.Clip(s))
	}
	network := "tcp"
	if addr = addr.Unmap(); addr.Is4() {
		network = "tcp4" // with "tcp", 0.0.0.0 would be every IPv6 address, too
	}
	return listenAddr{network, netip.AddrPortFrom(addr, uint16(n)).String()}, nil
}

// warnings says, for a person, what about the configuration is dangerous.
func (c Config) warnings(credentials int) []string {
	var out []string
	for _, text := range c.Listens {
		l, err := parseListen(text)
		if err == nil && credentials == 0 && l.network != "unix" && !loopback(l.address) {
			out = append(out, fmt.Sprintf("anybody who reaches %s may use this proxy: set a password with --add-credential USER", l))
		}
	}
	if c.DNS != "" {
		if l, err := parseListen(c.DNS); err == nil && !loopback(l.address) {
			out = append(out, fmt.Sprintf("anybody who reaches %s may resolve names here", l))
		}
	}
	return out
}

func loopback(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	return err == nil && ap.Addr().IsLoopback()
}

// badRequest turns what is wrong with a configuration into an answer of the API.
func badRequest(err error) error { return answer.Errorf(answer.BadRequest, "%v", err) }
