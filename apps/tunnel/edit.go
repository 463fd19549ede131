package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/settings"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
)

var errStopped = answer.Errorf(answer.Unavailable, "the tunnel app is stopping")

// setInbound opens an inbound, or changes it: new connections find the new settings, flows that run
// go on. If it fails, nothing has changed. before is what it was.
func (a *App) setInbound(config spec.Inbound) (before spec.Inbound, err error) {
	a.editing.Lock()
	defer a.editing.Unlock()
	if a.stopped {
		return before, errStopped
	}
	if err := a.inboundByHand(config.Key); err != nil {
		return before, err
	}
	before.Key = config.Key
	in := a.inbound(config.Key)
	if in != nil {
		before = in.Settings()
	}
	if err := a.savedInbounds.Set(config.Key.String(), config, a.prepareInbound); err != nil {
		return before, err
	}
	if in == nil || before.ExitsOf != config.ExitsOf || !slices.Equal(before.Exits, config.Exits) {
		in = a.inbound(config.Key)
		if err := in.Choose(config.ExitsOf); err != nil {
			return before, err
		}
	}
	if a.running {
		in.PinUser()
	}
	return before, nil
}

// prepareInbound opens the listeners of a configuration. The caller holds editing.
func (a *App) prepareInbound(config spec.Inbound) (settings.Prepared, error) {
	if err := a.vacant(config); err != nil {
		return settings.Prepared{}, err
	}
	in := a.inbound(config.Key)
	if in == nil {
		in = entrance.New(a.host, spec.Inbound{Key: config.Key})
	}
	listeners, undo, err := in.Prepare(config)
	if err != nil {
		return settings.Prepared{}, err
	}
	return settings.Prepared{Drop: undo, Commit: func() {
		a.mu.Lock()
		a.inbounds[config.Key] = in
		a.mu.Unlock()
		in.Commit(config, listeners)
	}}, nil
}

// remove takes an end of a tunnel out of what is saved and out of the ends of its kind. The caller
// holds editing.
func remove[E, C any](a *App, kind string, saved *settings.Table[C], ends map[spec.Key]*E, k spec.Key) (*E, error) {
	a.mu.Lock()
	e := ends[k]
	a.mu.Unlock()
	if e == nil {
		return nil, a.missing(kind, k)
	}
	if err := saved.Delete(k.String()); err != nil {
		return nil, err
	}
	a.mu.Lock()
	delete(ends, k)
	a.mu.Unlock()
	return e, nil
}

// vacant returns nil if no other inbound listens where a configuration wants to.
func (a *App) vacant(config spec.Inbound) error {
	for _, other := range a.allInbounds() {
		if other.Key == config.Key || other.Key.Protocol != config.Protocol {
			continue
		}
		for _, taken := range other.Settings().Listens {
			for _, wanted := range config.Listens {
				if wanted.Overlaps(taken) {
					return answer.Errorf(answer.Conflict, "listen %s: inbound %s already listens on %s", wanted, other.Key, taken)
				}
			}
		}
	}
	return nil
}

// deleteInbound closes an inbound and its flows. was is what it was.
func (a *App) deleteInbound(k spec.Key) (was spec.Inbound, err error) {
	a.editing.Lock()
	defer a.editing.Unlock()
	if err := a.inboundByHand(k); err != nil {
		return was, err
	}
	in, err := remove(a, spec.InboundKind, &a.savedInbounds, a.inbounds, k)
	if err != nil {
		return was, err
	}
	was = in.Settings()
	in.End()
	return was, in.Choose("")
}

// setOutbound opens an outbound, or changes it: new flows find the new settings, flows that run go
// on unless their peer lost its access. before is what it was.
func (a *App) setOutbound(config spec.Outbound) (before spec.Outbound, err error) {
	a.editing.Lock()
	defer a.editing.Unlock()
	if a.stopped {
		return before, errStopped
	}
	if err := a.outboundByHand(config.Key); err != nil {
		return before, err
	}
	before.Key = config.Key
	if o := a.outbound(config.Key); o != nil {
		before = o.Settings()
	}
	return before, a.savedOutbounds.Set(config.Key.String(), config, func(config spec.Outbound) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() { a.commitOutbound(config) }}, nil
	})
}

// commitOutbound puts a configuration in force. The caller holds editing.
func (a *App) commitOutbound(config spec.Outbound) {
	a.place(config)
	self := a.host.Mesh.Self()
	a.host.Cut(func(p apps.Peer, path string) bool {
		return path == config.Key.String() && config.Allows(self, p, a.host.Names) != nil
	})
	a.offer()
}

// Rule implements [apps.Ruled].
func (a *App) Rule(name string) ([]string, error) {
	protocol, tunnel, _ := strings.Cut(name, "/")
	if protocol == spec.ForwardPath {
		return a.forwards.Rule(tunnel)
	}
	k := spec.Key{Protocol: protocol, Name: tunnel}
	o := a.outbound(k)
	if o == nil {
		return nil, a.missing(spec.OutboundKind, k)
	}
	return o.Settings().Users, nil
}

var _ apps.Listing = (*App)(nil)

// Rules implements [apps.Listing]. A rule for addresses lets a peer ask by a name as well, which is
// looked up here.
func (a *App) Rules() (map[string][]string, error) {
	out := map[string][]string{}
	for _, o := range a.allOutbounds() {
		if c := o.Settings(); len(c.Users) > 0 {
			out[o.Key.String()] = c.Users
		}
	}
	const all = spec.ForwardPath + "/*"
	for _, r := range a.forwards.List() {
		out[all] = append(out[all], r.Users...)
	}
	return out, nil
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge].
func (a *App) Judge(func(apps.Peer, string) bool) {
	self := a.host.Mesh.Self()
	a.host.Cut(func(p apps.Peer, path string) bool {
		protocol, name, _ := strings.Cut(path, "/")
		o := a.outbound(spec.Key{Protocol: protocol, Name: name})
		if o == nil {
			return false
		}
		config := o.Settings()
		return config.Allows(self, p, a.host.Names) != nil
	})
	a.forwards.Judge(self.User)
}

// deleteOutbound closes an outbound and its flows. was is what it was.
func (a *App) deleteOutbound(k spec.Key) (was spec.Outbound, err error) {
	a.editing.Lock()
	defer a.editing.Unlock()
	if err := a.outboundByHand(k); err != nil {
		return was, err
	}
	o, err := remove(a, spec.OutboundKind, &a.savedOutbounds, a.outbounds, k)
	if err != nil {
		return was, err
	}
	was = o.Settings()
	o.End()
	a.host.Cut(func(_ apps.Peer, path string) bool { return path == k.String() })
	a.offer()
	return was, nil
}

func (a *App) missing(kind string, k spec.Key) error {
	return answer.Errorf(answer.NotFound, "endpoint %s has no %s %s", a.host.Mesh.Self().Name, kind, k)
}

// offer publishes the names of the outbounds. The caller holds editing.
func (a *App) offer() {
	var names []string
	var derived []spec.Key
	for _, o := range a.allOutbounds() {
		if o.Settings().Off {
			continue
		}
		if _, ok := a.derived[o.Key]; ok {
			derived = append(derived, o.Key)
		} else {
			names = append(names, o.Key.String())
		}
	}
	a.host.Offer(append(names, offersOf(derived)...))
}

// maxRules bounds the rules: each flow looks at all of them.
const maxRules = 1000

// checkRules is how rules are checked when they are changed or loaded.
func checkRules(rules *[]spec.Allow) error {
	for _, r := range *rules {
		if r.Target.String() == "" {
			return errors.New("allow: the target is missing")
		}
		if err := spec.ValidateUsers(r.Users); err != nil {
			return fmt.Errorf("allow %s: users: %w", r.Target, err)
		}
	}
	return nil
}

// setAllow adds a rule, replaces the one of the same target, or removes it if it names no users.
// was are the users of the rule before.
func (a *App) setAllow(rule spec.Allow) (was []string, err error) {
	_, err = a.savedRules.Change(func(rules *[]spec.Allow) (err error) {
		if i := slices.IndexFunc(*rules, rule.SameTarget); i >= 0 {
			was = (*rules)[i].Users
		}
		*rules, err = a.withRule(*rules, rule)
		return err
	}, func(_, rules []spec.Allow) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() { a.forwards.SetRules(rules, a.host.Mesh.Self().User) }}, nil
	})
	return was, err
}

// withRule returns rules after a change of one of them.
func (a *App) withRule(rules []spec.Allow, rule spec.Allow) ([]spec.Allow, error) {
	i := slices.IndexFunc(rules, rule.SameTarget)
	switch {
	case rule.Target.String() == "":
		return append(rules, rule), nil // which the check refuses
	case len(rule.Users) == 0 && i < 0:
		return nil, answer.Errorf(answer.NotFound, "endpoint %s allows nobody to reach %s", a.host.Mesh.Self().Name, rule.Target)
	case len(rule.Users) == 0:
		return slices.Delete(rules, i, i+1), nil
	case i >= 0:
		rules[i] = rule
		return rules, nil
	case len(rules) >= maxRules:
		return nil, answer.Errorf(answer.Limit, "allow: there are %d rules already", maxRules)
	}
	return append(rules, rule), nil
}
