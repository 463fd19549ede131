package exit

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
)

const (
	// lookupTimeout bounds the search for the addresses of a name.
	lookupTimeout = 5 * time.Second
)

// access is who may reach what without an outbound. The zero value allows nothing.
type access struct {
	names apps.Names // static
	mu    sync.Mutex
	rules []spec.Allow
	flows map[*forward]struct{}
}

// forward is a running flow without an outbound.
type forward struct {
	peer           apps.Peer
	asked, reached reach.Dest // the destination it asked for, and the address it was connected to
	cut            context.CancelFunc
}

// List returns the rules.
func (a *access) List() []spec.Allow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]spec.Allow{}, a.rules...)
}

// Rule returns whom rules let reach an address.
func (a *access) Rule(address string) ([]string, error) {
	target, err := reach.ParseDest(address)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	var who []string
	for _, r := range a.List() {
		if r.Target.Match(target) {
			who = append(who, r.Users...)
		}
	}
	return who, nil
}

// SetRules replaces the rules, and cuts the flows that they do not allow.
func (a *access) SetRules(rules []spec.Allow, user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rules = rules
	a.judgeLocked(user)
}

// Judge cuts the flows that the rules do not allow any longer.
func (a *access) Judge(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.judgeLocked(user)
}

func (a *access) judgeLocked(user string) {
	for f := range a.flows {
		if !a.allowed(a.rules, user, f.peer, f.asked, f.reached) {
			f.cut()
		}
	}
}

// Cut ends the flows of the peers for which the function says so.
func (a *access) Cut(match func(apps.Peer) bool) {
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
	if !a.allowed(a.rules, user, f.peer, f.asked, f.reached) {
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

// allowed reports whether a peer may reach a destination, which may be known by its name and by its
// address.
func (a *access) allowed(rules []spec.Allow, user string, p apps.Peer, by ...reach.Dest) bool {
	if p.User == user {
		return true
	}
	return slices.ContainsFunc(rules, func(r spec.Allow) bool {
		return a.names(p, r.Users) && slices.ContainsFunc(by, r.Target.Match)
	})
}

// permit returns where a flow may go, and what that is: the target that it asks for or, for a name
// that is allowed for some of its addresses, those. They are looked up once: the flow goes to the
// addresses that were checked.
func (a *access) permit(ctx context.Context, self apps.Endpoint, p apps.Peer, target spec.Address) ([]netip.Addr, error) {
	if p.User == self.User {
		return nil, nil
	}
	denied := answer.Errorf(answer.Denied, "endpoint %s does not allow user %s to reach %s", self.Name, p.User, target)
	if target.Path != "" {
		return nil, denied // sockets are for the endpoint's own user
	}
	asked, err := reach.NewDest(target.Host, target.First)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "target: %v", err)
	}
	rules := a.List()
	if a.allowed(rules, self.User, p, asked) {
		return nil, nil
	}
	mayLookUp := slices.ContainsFunc(rules, func(r spec.Allow) bool {
		return a.names(p, r.Users) && r.Target.Prefix.IsValid() && r.Target.Ports.Has(target.First)
	})
	if asked.Name == "" || !mayLookUp {
		return nil, denied
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", target.Host)
	if err != nil {
		return nil, reach.Explain("target "+target.String(), err)
	}
	var addrs []netip.Addr
	for _, ip := range found {
		if d := (reach.Dest{Addr: ip.Unmap(), Port: target.First}); a.allowed(rules, self.User, p, d) {
			addrs = append(addrs, d.Addr)
		}
	}
	if len(addrs) == 0 {
		return nil, denied
	}
	return addrs, nil
}
