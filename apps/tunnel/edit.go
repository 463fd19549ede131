package tunnel

import (
	"slices"

	"ztm/apps"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
)

var errStopped = answer.Errorf(answer.Unavailable, "the tunnel app is stopping")

// setInbound opens an inbound, or changes it: new connections find the new settings, flows that run go on. If it
// fails, nothing has changed.
func (a *App) setInbound(config spec.Inbound) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	if err := a.editable(&config); err != nil {
		return err
	}
	if err := a.vacant(config); err != nil {
		return err
	}
	in, isNew := a.inbound(config.Key), false
	if in == nil {
		in, isNew = entrance.New(a.host, spec.Inbound{Key: config.Key}), true
	}
	listeners, undo, err := in.Prepare(config)
	if err != nil {
		return err
	}
	err = a.host.State.Save(inboundPrefix+config.Key.String(), config)
	if old := in.Settings(); err == nil && (isNew || old.ExitsOf != config.ExitsOf || !slices.Equal(old.Exits, config.Exits)) {
		err = in.Choose(config.ExitsOf)
	}
	if err != nil {
		undo()
		return err
	}
	a.mu.Lock()
	a.inbounds[config.Key] = in
	a.mu.Unlock()
	in.Commit(config, listeners)
	if a.running {
		in.PinUser()
	}
	return nil
}

// editable returns nil if a configuration may become the present one. The caller holds editing.
func (a *App) editable(config interface{ Validate() error }) error {
	if a.stopped {
		return errStopped
	}
	if err := config.Validate(); err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	return nil
}

// remove takes an end of a tunnel out of what is saved and out of the ends of its kind. The caller holds editing.
func remove[E any](a *App, kind string, ends map[spec.Key]*E, k spec.Key) (*E, error) {
	a.mu.Lock()
	e := ends[k]
	a.mu.Unlock()
	if e == nil {
		return nil, a.missing(kind, k)
	}
	if err := a.host.State.Delete(kind + "/" + k.String()); err != nil {
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

// deleteInbound closes an inbound and its flows.
func (a *App) deleteInbound(k spec.Key) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	in, err := remove(a, spec.InboundKind, a.inbounds, k)
	if err != nil {
		return err
	}
	in.End()
	return in.Choose("")
}

// setOutbound opens an outbound, or changes it: new flows find the new settings, flows that run go on unless their
// peer has no access any more.
func (a *App) setOutbound(config spec.Outbound) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	if err := a.editable(&config); err != nil {
		return err
	}
	if err := a.host.State.Save(outboundPrefix+config.Key.String(), config); err != nil {
		return err
	}
	a.mu.Lock()
	o := a.outbounds[config.Key]
	if o == nil {
		o = exit.New(a.host, config)
		a.outbounds[config.Key] = o
	}
	a.mu.Unlock()
	o.Change(config)
	if a.running {
		o.Watch()
	}
	self := a.host.Mesh.Self()
	a.host.Cut(func(p apps.Peer, path string) bool {
		return path == config.Key.String() && config.Allows(self, p) != nil
	})
	a.offer()
	return nil
}

// deleteOutbound closes an outbound and its flows.
func (a *App) deleteOutbound(k spec.Key) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	o, err := remove(a, spec.OutboundKind, a.outbounds, k)
	if err != nil {
		return err
	}
	o.End()
	a.host.Cut(func(_ apps.Peer, path string) bool { return path == k.String() })
	a.offer()
	return nil
}

func (a *App) missing(kind string, k spec.Key) error {
	return answer.Errorf(answer.NotFound, "endpoint %s has no %s %s", a.host.Mesh.Self().Name, kind, k)
}

// offer publishes the names of the outbounds. The caller holds editing.
func (a *App) offer() {
	var names []string
	for _, o := range a.allOutbounds() {
		names = append(names, o.Key.String())
	}
	a.host.Offer(names)
}

// allowKey is where the rules are saved.
const allowKey = "allow"

// maxRules bounds the rules: each flow looks at all of them.
const maxRules = 1000

// setAllow adds a rule, replaces the one of the same target, or removes it if it names no users.
func (a *App) setAllow(rule spec.Allow) error {
	a.editing.Lock()
	defer a.editing.Unlock()
	if rule.Target.String() == "" {
		return answer.Errorf(answer.BadRequest, "allow: the target is missing")
	}
	if err := spec.ValidateUsers(rule.Users); err != nil {
		return answer.Errorf(answer.BadRequest, "allow %s: users: %v", rule.Target, err)
	}
	rules := a.forwards.List()
	i := slices.IndexFunc(rules, func(r spec.Allow) bool { return r.Target.String() == rule.Target.String() })
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
func (a *App) saveAllow(rules []spec.Allow) error {
	if err := a.host.State.Save(allowKey, rules); err != nil {
		return err
	}
	a.forwards.SetRules(rules, a.host.Mesh.Self().User)
	return nil
}
