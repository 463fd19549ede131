package exit

import (
	"strings"

	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// Advertised is what an exit tells a peer about itself: the answer to "targets".
//
// The search domains are how a short name finds its exit. In a cluster, svc-a.svc means svc-a.svc.cluster.local
// because the resolver there appends cluster.local. So the exit publishes the search domains of its resolver, and the
// entrance sends it a short name that is a target with one of them appended (see package route). The exit then
// resolves the name as any program beside it would, and asks its policy about the full name that it found. An exit that
// does not know such a name after all has no last word: the entrance goes on as without it.
type Advertised struct {
	Targets    []string `json:"targets"`
	Exclusions []string `json:"exclusions,omitempty"`
	Search     []string `json:"search,omitempty"`
}

// Advertise returns what the user may reach from here. A user who may reach nothing learns nothing.
func (e *Exit) Advertise(who policy.Asker) (Advertised, error) {
	p := e.policy()
	targets := p.Visible(who)
	if len(targets) == 0 {
		return Advertised{}, answer.Errorf(answer.Denied, "nothing here is for user %q", who.User)
	}
	o := Advertised{Targets: reach.Texts(targets), Exclusions: reach.Texts(p.Exclusions)}
	for _, domain := range dns.ReadConf(e.sys.ResolvConf).Search {
		if useful(domain, targets) {
			o.Search = append(o.Search, domain)
		}
	}
	return o, nil
}

// useful reports whether a short name with the domain appended could be one of the targets. Search domains that
// cannot are not told.
func useful(domain string, targets []reach.Pattern) bool {
	for _, t := range targets {
		end := t.Suffix
		if t.Name != "" {
			end = "." + t.Name
		}
		if end != "" && (strings.HasSuffix(end, "."+domain) || strings.HasSuffix("."+domain, end)) {
			return true
		}
	}
	return false
}
