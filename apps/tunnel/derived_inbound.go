package tunnel

import (
	"maps"
	"reflect"

	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
)

// maxDerivedInbounds bounds the derived inbounds of an endpoint: each is a listener.
const maxDerivedInbounds = 1024

// setDerivedInbounds makes a set the whole of what an owner has, and returns why some of it is not
// in force. The caller holds editing.
func (a *App) setDerivedInbounds(owner string, set []spec.Inbound) map[string]string {
	refused, kept := map[string]string{}, map[spec.Key]bool{}
	for _, c := range set {
		kept[c.Key] = true
	}
	for k, by := range maps.Clone(a.derivedIn) {
		if by == owner && !kept[k] {
			a.dropInbound(k)
		}
	}
	done := map[spec.Key]bool{}
	for _, c := range set {
		if err := a.deriveInbound(owner, c, done[c.Key]); err != nil {
			refused[c.Key.String()] = err.Error()
		}
		done[c.Key] = true
	}
	return refused
}

// deriveInbound puts one inbound in force. If it fails, what there was stays.
func (a *App) deriveInbound(owner string, c spec.Inbound, twice bool) error {
	if err := c.Validate(); err != nil {
		return err
	}
	by, derived := a.derivedIn[c.Key]
	in := a.inbound(c.Key)
	switch {
	case twice:
		return answer.Errorf(answer.Conflict, "inbound %s is there twice", c.Key)
	case in != nil && !derived:
		return answer.Errorf(answer.Conflict, "inbound %s was set by hand: delete it first", c.Key)
	case derived && by != owner:
		return answer.Errorf(answer.Conflict, "inbound %s belongs to %s", c.Key, by)
	case !derived && len(a.derivedIn) >= maxDerivedInbounds:
		return answer.Errorf(answer.Limit, "inbound %s: an endpoint has %d derived inbounds at most", c.Key, maxDerivedInbounds)
	case in != nil && reflect.DeepEqual(in.Settings(), c):
		return nil
	}
	prepared, err := a.prepareInbound(c)
	if err != nil {
		return err
	}
	prepared.Commit()
	a.own(a.derivedIn, c.Key, owner)
	in = a.inbound(c.Key)
	if err := in.Choose(c.ExitsOf); err != nil {
		return err
	}
	if a.running {
		in.PinUser()
	}
	return nil
}

// dropInbound ends a derived inbound and its flows.
func (a *App) dropInbound(k spec.Key) {
	a.mu.Lock()
	in := a.inbounds[k]
	delete(a.inbounds, k)
	delete(a.derivedIn, k)
	a.mu.Unlock()
	in.End()
	if err := in.Choose(""); err != nil {
		a.host.Log.Warn("whose exits an inbound used is not forgotten", "tunnel", k, "err", err)
	}
}

// inboundByHand returns nil unless an inbound is derived. The caller holds editing.
func (a *App) inboundByHand(k spec.Key) error { return byHand(spec.InboundKind, a.derivedIn, k) }
