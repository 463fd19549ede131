package tunnel

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Allow lets users reach addresses through this endpoint without an outbound. The endpoint's own user needs none.
type Allow struct {
	Target Pattern  `json:"target"`
	Users  []string `json:"users"`
}

// allowKey is where the rules are saved.
const allowKey = "allow"

const (
	// maxRules bounds the rules: each flow looks at all of them.
	maxRules = 1000
	// lookupTimeout bounds the search for the addresses of a name.
	lookupTimeout = 5 * time.Second
)

// access is who may reach what without an outbound. The zero value allows nothing.
type access struct {
	mu    sync.Mutex
	rules []Allow
	flows map[*forward]struct{}
}

// forward is a running flow without an outbound.
type forward struct {
	peer apps.Peer
	host string // what it asked for
	ip   netip.Addr
	port uint16
	cut  context.CancelFunc
}

func (a *access) list() []Allow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Allow{}, a.rules...)
}

// set replaces the rules, and cuts the flows that they do not allow.
func (a *access) set(rules []Allow, user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rules = rules
	for f := range a.flows {
		if !allowed(rules, user, f.peer, f.host, f.ip, f.port) {
			f.cut()
		}
	}
}

// cut ends the flows of the peers for which the function says so.
func (a *access) cut(match func(apps.Peer) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.flows {
		if match(f.peer) {
			f.cut()
		}
	}
}

// enter files a flow, if the rules still allow it. The caller calls leave when it is over.
func (a *access) enter(f *forward, user string) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !allowed(a.rules, user, f.peer, f.host, f.ip, f.port) {
		return nil, false
	}
	if a.flows == nil {
		a.flows = map[*forward]struct{}{}
	}
	a.flows[f] = struct{}{}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.flows, f)
	}, true
}

// allowed reports whether a peer may reach an address that it asked for by the name or address host. An invalid ip
// stands for one that is not known yet.
func allowed(rules []Allow, user string, p apps.Peer, host string, ip netip.Addr, port uint16) bool {
	if p.User == user {
		return true
	}
	return slices.ContainsFunc(rules, func(r Allow) bool {
		return slices.Contains(r.Users, p.User) &&
			(r.Target.matchesName(host, port) || ip.IsValid() && r.Target.matchesIP(ip, port))
	})
}

// permit returns the addresses that a flow may go to: the one that it asks for or, for a name that is allowed for some
// of its addresses, those. They are looked up once: what was judged is what is connected to.
func (a *access) permit(ctx context.Context, self apps.Endpoint, p apps.Peer, target Address) ([]Address, error) {
	denied := answer.Errorf(answer.Denied, "endpoint %s does not allow user %s to reach %s", self.Name, p.User, target)
	if p.User != self.User && target.Path != "" {
		return nil, denied // sockets are for the endpoint's own user
	}
	rules := a.list()
	ip, err := netip.ParseAddr(target.Host)
	if allowed(rules, self.User, p, target.Host, ip, target.First) {
		return []Address{target}, nil
	}
	mayLookUp := slices.ContainsFunc(rules, func(r Allow) bool {
		return slices.Contains(r.Users, p.User) && r.Target.prefix.IsValid() && r.Target.matchesPort(target.First)
	})
	if err == nil || !mayLookUp {
		return nil, denied
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", target.Host)
	if err != nil {
		return nil, dialError(target, err)
	}
	var addresses []Address
	for _, ip := range found {
		if ip = ip.Unmap(); allowed(rules, self.User, p, target.Host, ip, target.First) {
			addresses = append(addresses, Address{Host: ip.String(), First: target.First, Last: target.First})
		}
	}
	if len(addresses) == 0 {
		return nil, denied
	}
	return addresses, nil
}

// setAllow adds a rule, replaces the one of the same target, or removes it if it names no users.
func (a *App) setAllow(rule Allow) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	if rule.Target.text == "" {
		return answer.Errorf(answer.BadRequest, "allow: the target is missing")
	}
	if err := validateUsers(rule.Users); err != nil {
		return answer.Errorf(answer.BadRequest, "allow %s: users: %v", rule.Target, err)
	}
	rules := a.access.list()
	i := slices.IndexFunc(rules, func(r Allow) bool { return r.Target.text == rule.Target.text })
	switch {
	case len(rule.Users) == 0 && i < 0:
		return answer.Errorf(answer.NotFound, "endpoint %s allows nobody to reach %s", a.host.Mesh.Self().Name, rule.Target)
	case len(rule.Users) == 0:
		rules = slices.Delete(rules, i, i+1)
	case i >= 0:
		rules[i] = rule
	case len(rules) >= maxRules:
		return answer.Errorf(answer.Limit, "allow: there are %d rules already", maxRules)
	default:
		rules = append(rules, rule)
	}
	return a.saveAllow(rules)
}

// saveAllow makes rules the present ones. The caller holds editing.
func (a *App) saveAllow(rules []Allow) error {
	if err := a.host.State.Save(allowKey, rules); err != nil {
		return err
	}
	a.access.set(rules, a.host.Mesh.Self().User)
	return nil
}
