package route

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ztm/apps/reach"
)

// GET /proxy.pac: a browser's proxy auto-configuration, a JavaScript function that says for each URL whether it goes
// through here. It is made of the routes and of what the exits advertise at that moment. What no exit serves is left to
// the browser itself.

// pacRule is one pattern for the script, as [kind, text, bits, low port, high port, through here].
type pacRule [6]any

const (
	pacAny = iota
	pacName
	pacSuffix
	pacIPv4
	pacIPv6
	pacPlain // a name without dots
)

// pacScript is what follows the declarations of proxy and rules. IPv6 networks are not computed: all
// IPv6 literals go through here if any network does, and the proxy decides.
const pacScript = `
function ipv4(host) {
  var m = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(host);
  return m ? ((+m[1] * 256 + +m[2]) * 256 + +m[3]) * 256 + +m[4] : -1;
}
function matches(rule, host, port) {
  if (port < rule[3] || port > rule[4]) return false;
  switch (rule[0]) {
  case 0: return true;
  case 1: return host === rule[1];
  case 2: return host.length > rule[1].length && host.slice(-rule[1].length) === rule[1];
  case 3:
    var size = Math.pow(2, 32 - rule[2]), at = ipv4(host);
    return at >= 0 && Math.floor(at / size) === Math.floor(ipv4(rule[1]) / size);
  case 4: return host.indexOf(":") >= 0;
  case 5: return host.indexOf(".") < 0 && host.indexOf(":") < 0;
  }
  return false;
}
function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\.$/, "").replace(/^\[|\]$/g, "");
  var parts = /^([a-z]+):\/\/(?:[^\/@]*@)?(?:\[[^\]]*\]|[^\/:]*)(?::(\d+))?/i.exec(url) || [];
  var scheme = (parts[1] || "").toLowerCase();
  var port = +(parts[2] || (scheme === "https" || scheme === "wss" ? 443 : 80));
  for (var i = 0; i < rules.length; i++)
    if (matches(rules[i], host, port)) return rules[i][5] ? proxy : "DIRECT";
  return "DIRECT";
}
`

// PAC writes the script. proxy is the host:port under which the browser reached this proxy.
func (r *Router) PAC(ctx context.Context, proxy string) ([]byte, error) {
	s := r.table()
	all, err := r.exits.look(ctx, s.Trusted, answerFresh, false)
	if err != nil {
		return nil, err
	}
	var routes, literal, short, rest []reach.Pattern // in the order of route.go
	direct := map[string]bool{}                      // by the text of the pattern
	for _, rt := range s.Routes {
		routes = append(routes, rt.Pattern)
		direct[rt.Pattern.String()] = rt.Exit == ""
	}
	for _, c := range all {
		if c.Serves == nil {
			continue
		}
		short = append(short, c.Serves.shortTargets()...)
		for _, t := range c.Serves.Targets {
			if t.CatchAll() {
				rest = append(rest, t)
			} else {
				literal = append(literal, t)
			}
		}
	}
	rules := []pacRule{}
	for i, list := range [][]reach.Pattern{routes, literal, short, rest} {
		slices.SortStableFunc(list, func(a, b reach.Pattern) int { return cmp.Compare(b.Weight(), a.Weight()) })
		for _, p := range reach.Distinct(list) { // several exits may serve the same
			rules = append(rules, pacRulesOf(p, i > 0 || !direct[p.String()])...)
		}
	}
	return writePAC("PROXY "+proxy, rules)
}

// shortTargets returns the targets as they are written without a search domain: *.svc for *.svc.cluster.local and
// cluster.local, and all names without dots for svc.cluster.local. Of other short names a browser knows too many that
// are whole: github.com is one.
func (m *Advertised) shortTargets() []reach.Pattern {
	var out []reach.Pattern
	for _, t := range m.Targets {
		for _, domain := range m.Search {
			short := reach.Pattern{Ports: t.Ports}
			if name, ok := strings.CutSuffix(t.Name, "."+domain); ok {
				short.Name = name
			} else if suffix, ok := strings.CutSuffix(t.Suffix, "."+domain); ok {
				short.Suffix = suffix // "" is a name without dots
			} else {
				continue
			}
			out = append(out, short)
		}
	}
	return out
}

// pacRulesOf returns a rule for each range of ports.
func pacRulesOf(p reach.Pattern, through bool) []pacRule {
	kind, text, bits := pacPlain, "", 0
	switch {
	case p.Any:
		kind = pacAny
	case p.Suffix != "":
		kind, text = pacSuffix, p.Suffix
	case p.Prefix.IsValid() && p.Prefix.Addr().Is4():
		kind, text, bits = pacIPv4, p.Prefix.Addr().String(), p.Prefix.Bits()
	case p.Prefix.IsValid():
		if kind = pacIPv6; !through { // the script would send all of IPv6 there
			return nil
		}
	case p.Name != "":
		kind, text = pacName, p.Name
	}
	var out []pacRule
	for _, r := range p.Ports.Ranges() {
		out = append(out, pacRule{kind, text, bits, r.First, r.Last, through})
	}
	return out
}

// writePAC declares the data, as JSON, which is JavaScript, before the script.
func writePAC(proxy string, rules []pacRule) ([]byte, error) {
	at, err := json.Marshal(proxy)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(rules)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "var proxy = %s;\nvar rules = %s;\n%s", at, list, pacScript), nil
}
