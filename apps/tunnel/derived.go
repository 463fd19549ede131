package tunnel

import (
	"reflect"
	"slices"

	"ztm/apps"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/offer"
)

const (
	// maxDerived bounds the derived outbounds of an endpoint: each takes some kilobytes.
	maxDerived = 4096
	// maxNamed and maxNamedBytes bound those that are offered by their names: most of a record,
	// which has room for 256 offers and 16 KiB.
	maxNamed      = 192
	maxNamedBytes = 8 << 10
)

// Derived is a set of ends that an owner, such as "kubernetes", works out from what it watches. They
// are kept in memory alone: their owner says them again after a restart.
type Derived struct {
	Outbound []spec.Outbound `json:"outbound"`
	Inbound  []spec.Inbound  `json:"inbound,omitempty"`
}

// DerivedAnswer says which ends of a [Derived] are not in force, and why, by key.
type DerivedAnswer struct {
	Refused        map[string]string `json:"refused"` // of the outbounds
	RefusedInbound map[string]string `json:"refusedInbound,omitempty"`
}

// setDerived makes a set the whole of what an owner has. Outbounds that are as they were keep their
// flows, those that are gone lose them. One that cannot be is left out, and the rest goes on.
func (a *App) setDerived(owner string, set Derived) (DerivedAnswer, error) {
	if err := spec.ValidateOwner(owner); err != nil {
		return DerivedAnswer{}, answer.Errorf(answer.BadRequest, "owner: %v", err)
	}
	a.editing.Lock()
	defer a.editing.Unlock()
	if a.stopped {
		return DerivedAnswer{}, errStopped
	}
	d := derivation{app: a, owner: owner, kept: map[spec.Key]bool{}}
	out := DerivedAnswer{Refused: map[string]string{}}
	for _, c := range set.Outbound {
		if err := d.admit(c); err != nil {
			out.Refused[c.Key.String()] = err.Error()
		}
	}
	d.commit(set.Outbound)
	out.RefusedInbound = a.setDerivedInbounds(owner, set.Inbound)
	return out, nil
}

// derivation is one change of what an owner has. The caller holds App.editing.
type derivation struct {
	app   *App
	owner string
	kept  map[spec.Key]bool // what is to be in force
}

// admit takes an outbound into the set, or says why it cannot be in it.
func (d *derivation) admit(c spec.Outbound) error {
	if err := c.ValidateDerived(); err != nil {
		return err
	}
	owner, derived := d.app.derived[c.Key]
	switch {
	case d.kept[c.Key]:
		return answer.Errorf(answer.Conflict, "outbound %s is there twice", c.Key)
	case d.app.outbound(c.Key) != nil && !derived:
		return answer.Errorf(answer.Conflict, "outbound %s was set by hand: delete it first", c.Key)
	case derived && owner != d.owner:
		return answer.Errorf(answer.Conflict, "outbound %s belongs to %s", c.Key, owner)
	case d.full():
		return answer.Errorf(answer.Limit, "outbound %s: an endpoint has %d derived outbounds at most", c.Key, maxDerived)
	}
	d.kept[c.Key] = true
	return nil
}

// full reports whether there is no room for one more. What other owners have counts too.
func (d *derivation) full() bool {
	count := len(d.kept)
	for _, owner := range d.app.derived {
		if owner != d.owner {
			count++
		}
	}
	return count >= maxDerived
}

// commit puts the set in force: removes what is gone, then places what is new or was changed.
func (d *derivation) commit(set []spec.Outbound) {
	a, gone, changed := d.app, map[string]bool{}, map[string]*spec.Outbound{}
	for k, owner := range a.derived {
		if owner == d.owner && !d.kept[k] {
			d.remove(k)
			gone[k.String()] = true
		}
	}
	for i := range set {
		c := &set[i]
		if !d.kept[c.Key] || changed[c.Key.String()] != nil {
			continue // refused, or a second one of its name
		}
		if o := a.outbound(c.Key); o == nil || !reflect.DeepEqual(o.Settings(), *c) {
			a.place(*c)
			a.own(a.derived, c.Key, d.owner)
		}
		changed[c.Key.String()] = c
	}
	self := a.host.Mesh.Self()
	a.host.Cut(func(p apps.Peer, path string) bool {
		c := changed[path]
		return gone[path] || c != nil && c.Allows(self, p, a.host.Names) != nil
	})
	a.offer()
}

func (d *derivation) remove(k spec.Key) {
	d.app.mu.Lock()
	o := d.app.outbounds[k]
	delete(d.app.outbounds, k)
	delete(d.app.derived, k)
	d.app.mu.Unlock()
	o.End()
}

// place makes an outbound of a configuration, or changes the one there is. The caller holds
// editing.
func (a *App) place(config spec.Outbound) {
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
}

// own notes whose a derived end is. The caller holds editing.
func (a *App) own(owners map[spec.Key]string, k spec.Key, owner string) {
	a.mu.Lock()
	owners[k] = owner
	a.mu.Unlock()
}

// Owners say whose the ends are that are derived, by key.
type Owners struct {
	Outbound map[string]string `json:"outbound,omitempty"`
	Inbound  map[string]string `json:"inbound,omitempty"`
}

func (a *App) owners() Owners {
	a.mu.Lock()
	defer a.mu.Unlock()
	byText := func(owners map[spec.Key]string) map[string]string {
		out := make(map[string]string, len(owners))
		for k, owner := range owners {
			out[k.String()] = owner
		}
		return out
	}
	return Owners{byText(a.derived), byText(a.derivedIn)}
}

// outboundByHand returns nil unless an outbound is derived. The caller holds editing.
func (a *App) outboundByHand(k spec.Key) error { return byHand(spec.OutboundKind, a.derived, k) }

// byHand returns nil unless an end is derived: what derives it would bring it back.
func byHand(kind string, derived map[spec.Key]string, k spec.Key) error {
	if owner, ok := derived[k]; ok {
		return answer.Errorf(answer.Conflict, "%s %s comes from %s: change it there", kind, k, owner)
	}
	return nil
}

// offersOf returns how derived outbounds are offered: by name or, those of a protocol that do not
// fit into a record together with all others, as every name of the protocol.
func offersOf(keys []spec.Key) []string {
	names, size := make([]string, len(keys)), 0
	for i, k := range keys {
		names[i] = k.String()
		size += len(names[i])
	}
	if len(names) <= maxNamed && size <= maxNamedBytes {
		return names
	}
	for i, k := range keys {
		names[i] = spec.Key{Protocol: k.Protocol, Name: offer.All}.String()
	}
	slices.Sort(names)
	return slices.Compact(names)
}
