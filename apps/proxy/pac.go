package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ztm/apps"
)

// GET /proxy.pac: a browser's proxy auto-configuration, a JavaScript function that says for each URL whether it goes
// through here. It is made of the routes and of what the exits offer at that moment. What no exit serves is left to
// the browser itself.

// pacRule is one pattern for the script, as [kind, text, bits, low port, high port, through here].
type pacRule [6]any

const (
	pacAny = iota
	pacName
	pacSuffix
	pacIPv4
	pacIPv6
)

// pacScript is what follows the declarations of proxy, rules, search and dots. IPv6 networks are not computed: all
// IPv6 literals go through here if any network does, and the proxy decides.
const pacScript = `
function ipv4(host) {
  var m = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(host);
  return m ? ((+m[1] * 256 + +m[2]) * 256 + +m[3]) * 256 + +m[4] : -1;
}
function matches(rule, names, port) {
  if (port < rule[3] || port > rule[4]) return false;
  for (var i = 0; i < names.length; i++) {
    var name = names[i];
    switch (rule[0]) {
    case 0: return true;
    case 1: if (name === rule[1]) return true; break;
    case 2: if (name.length > rule[1].length && name.slice(-rule[1].length) === rule[1]) return true; break;
    case 3:
      var size = Math.pow(2, 32 - rule[2]), at = ipv4(name);
      if (at >= 0 && Math.floor(at / size) === Math.floor(ipv4(rule[1]) / size)) return true;
      break;
    case 4: if (name.indexOf(":") >= 0) return true; break;
    }
  }
  return false;
}
function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\.$/, "").replace(/^\[|\]$/g, "");
  var parts = /^([a-z]+):\/\/(?:[^\/@]*@)?(?:\[[^\]]*\]|[^\/:]*)(?::(\d+))?/i.exec(url) || [];
  var scheme = (parts[1] || "").toLowerCase();
  var port = +(parts[2] || (scheme === "https" || scheme === "wss" ? 443 : 80));
  var names = [host];
  if (host.indexOf(":") < 0 && ipv4(host) < 0 && host.split(".").length - 1 <= dots)
    for (var i = 0; i < search.length; i++) names.push(host + "." + search[i]);
  for (var j = 0; j < rules.length; j++)
    if (matches(rules[j], names, port)) return rules[j][5] ? proxy : "DIRECT";
  return "DIRECT";
}
`

// serveOwn answers requests to the proxy itself.
func (w *web) serveOwn(rw http.ResponseWriter, r *http.Request, c *webClient) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.Path != "/proxy.pac" && r.URL.Path != "/wpad.dat" {
		w.say(rw, http.StatusBadRequest, string(apps.BadRequest), "this is a proxy: want CONNECT or an absolute URL, or GET /proxy.pac")
		return
	}
	host, ok := ownHost(r.Host)
	if !ok {
		// A page whose name was made to resolve to this address is not to learn which names there are.
		w.say(rw, http.StatusMisdirectedRequest, string(apps.Denied), "ask for /proxy.pac by address or by a name without dots")
		return
	}
	if !fromHere(c.RemoteAddr()) && !w.authorized(r, "Authorization", c) {
		rw.Header().Set("WWW-Authenticate", `Basic realm="ztm proxy"`)
		w.say(rw, http.StatusUnauthorized, string(apps.Denied), "this proxy wants a user and a password")
		return
	}
	script, err := w.entrance.router.pac(r.Context(), host)
	if err != nil {
		w.fail(rw, err)
		return
	}
	rw.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	rw.Header().Set("Cache-Control", "no-cache")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.Write(script)
}

// ownHost checks a Host field that names this proxy: an address, or a name that no stranger can own.
func ownHost(hostport string) (string, bool) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.Trim(hostport, "[]"), defaultHTTPPort
	}
	n, err := parsePort(port)
	if err != nil {
		return "", false
	}
	d, err := newDest(host, n)
	if err != nil || strings.Contains(d.name, ".") {
		return "", false
	}
	return net.JoinHostPort(d.host(), strconv.Itoa(int(n))), true
}

// fromHere reports whether a client is a program of this device.
func fromHere(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err != nil && a.Network() == "unix" || err == nil && ap.Addr().Unmap().IsLoopback()
}

// pac writes the script. proxy is the host:port under which the browser reached this proxy.
func (r *router) pac(ctx context.Context, proxy string) ([]byte, error) {
	s := r.settings()
	all, err := r.exits.look(ctx, s.trusted, offerFresh, false)
	if err != nil {
		return nil, err
	}
	type weighted struct {
		pattern
		through bool
		route   bool
	}
	var list []weighted
	for _, rt := range s.routes {
		list = append(list, weighted{rt.pattern, rt.exit != "", true})
	}
	search, dots := []string{}, shortDots
	for _, c := range all {
		if c.menu == nil {
			continue
		}
		for _, t := range c.menu.targets {
			list = append(list, weighted{t, true, false})
		}
		search, dots = append(search, c.menu.search...), max(dots, c.menu.ndots-1)
	}
	slices.SortStableFunc(list, func(a, b weighted) int {
		if a.route != b.route { // any route comes before every choice among exits
			if a.route {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.weight(), a.weight())
	})
	rules := make([]pacRule, 0, len(list))
	for _, l := range list {
		if rule := pacRuleOf(l.pattern, l.through); l.through || rule[0] != pacIPv6 {
			rules = append(rules, rule)
		}
	}
	slices.Sort(search)
	return writePAC("PROXY "+proxy, rules, slices.Compact(search), dots)
}

func pacRuleOf(p pattern, through bool) pacRule {
	kind, text, bits := pacName, p.name, 0
	switch {
	case p.any:
		kind = pacAny
	case p.suffix != "":
		kind, text = pacSuffix, p.suffix
	case p.prefix.IsValid() && p.prefix.Addr().Is4():
		kind, text, bits = pacIPv4, p.prefix.Addr().String(), p.prefix.Bits()
	case p.prefix.IsValid():
		kind, text, bits = pacIPv6, p.prefix.Addr().String(), p.prefix.Bits()
	}
	return pacRule{kind, text, bits, p.lo, p.hi, through}
}

// writePAC declares the data, as JSON, which is JavaScript, before the script.
func writePAC(proxy string, rules []pacRule, search []string, dots int) ([]byte, error) {
	var out []byte
	for _, v := range []struct {
		name  string
		value any
	}{{"proxy", proxy}, {"rules", rules}, {"search", search}, {"dots", dots}} {
		b, err := json.Marshal(v.value)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, "var "+v.name+" = "...), b...), ";\n"...)
	}
	return append(out, pacScript...), nil
}
