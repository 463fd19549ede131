package dns

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"ztm/apps/reach"
)

// Conf is what a resolv.conf(5) says.
type Conf struct {
	Search  []string         // domains to append to short names, without dots at either end
	ndots   int              // a name with fewer dots is tried with the search domains first
	servers []netip.AddrPort // name servers
}

const (
	maxSearch     = 16       // domains; libc takes 6, Kubernetes allows 32 and sets 3
	maxResolvConf = 64 << 10 // bytes
	maxNdots      = 15       // as libc
	dnsPort       = 53
)

// ReadConf reads the file. Where there is none, as on Windows, the answer has nothing in it.
func ReadConf(path string) Conf {
	f, err := os.Open(path)
	if err != nil {
		return Conf{ndots: 1}
	}
	defer f.Close()
	return ParseConf(io.LimitReader(f, maxResolvConf))
}

// ParseConf reads the text of such a file. What it does not know it passes over, as libc does.
func ParseConf(r io.Reader) Conf {
	conf := Conf{ndots: 1}
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
			conf.Search = SearchList(words[1:])
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

// SearchList returns the words that can be search domains, in lower case and at most [maxSearch].
func SearchList(words []string) []string {
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

// Spellings returns the full names that a resolver with this configuration tries for d, in its order
// (resolv.conf(5)): the search domains come first for names with fewer than ndots dots. Every spelling is complete,
// so that what is asked of the resolver is exactly what the policy was asked about.
func (c Conf) Spellings(d reach.Dest) []reach.Dest {
	literal := reach.Dest{Name: d.Name, Full: true, Port: d.Port}
	if d.Full {
		return []reach.Dest{literal}
	}
	var out []reach.Dest
	for _, domain := range c.Search {
		if within := d.Within(domain); len(within.Name) <= reach.MaxName {
			out = append(out, within)
		}
	}
	if strings.Count(d.Name, ".") < c.ndots {
		return append(out, literal)
	}
	return append([]reach.Dest{literal}, out...)
}
