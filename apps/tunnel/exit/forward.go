// The exit of a flow that names its target itself, for `ztm forward` and `ztm nc`. The way of one
// flow:
//
//	Handle -> permit: may this user reach that address -> dial -> enter -> carry
//
//  1. The endpoint's own user may reach everything, everybody else what `ztm tunnel allow` says:
//     nothing, at first.
//  2. A name is allowed as such or by its addresses. In the second case the flow goes to the
//     addresses that were checked: that the name points elsewhere a moment later has no effect.
//  3. A rule that is taken away cuts the flows that it allowed.

package exit

import (
	"context"
	"net"
	"net/netip"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/tunnel/answer"
)

// Forwards is the exit of all flows that name their targets.
type Forwards struct {
	core
	access
	mesh apps.Mesh // static
}

// NewForwards makes the exit. Rules are what was saved.
func NewForwards(h apps.Host, rules []spec.Allow) *Forwards {
	x := &Forwards{core: newCore(h.Log.With("tunnel", spec.ForwardPath)), mesh: h.Mesh}
	x.access.rules, x.access.names = rules, h.Names
	return x
}

// Handle handles a flow until it is over.
func (x *Forwards) Handle(ctx context.Context, f apps.Flow, protocol string) {
	x.Answer(f, x.serve(ctx, f, protocol))
}

// serve handles a flow that names its target. An error means that it was not accepted.
func (x *Forwards) serve(ctx context.Context, f apps.Flow, protocol string) error {
	if protocol != spec.TCP && protocol != spec.UDP {
		return answer.Errorf(answer.NotFound, "there is no path %s", f.Path())
	}
	target, err := spec.ParseAddress(f.Query().Get(spec.TargetParam))
	if err == nil {
		err = spec.ValidateAddresses(protocol, []spec.Address{target})
	}
	if err == nil {
		err = target.ValidateTarget()
	}
	if err != nil {
		return answer.Errorf(answer.BadRequest, "target: %v", err)
	}
	if target.Size() > 1 {
		return answer.Errorf(answer.BadRequest, "target: %s is more than one port", target)
	}
	addrs, err := x.access.permit(ctx, x.mesh.Self(), f.Peer(), target)
	if f.Query().Has(spec.ProbeParam) {
		answerProbe(f, err)
		return nil
	}
	if err != nil {
		return err
	}
	c, err := dialPermitted(ctx, protocol, target, addrs)
	if err != nil {
		return err
	}
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	running := &forward{peer: f.Peer(), cut: cut}
	running.asked, _ = reach.NewDest(target.Host, target.First) // invalid for what the own user alone reaches
	if len(addrs) > 0 {
		remote, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		running.reached = reach.Dest{Addr: remote.Addr().Unmap(), Port: target.First}
	}
	self := x.mesh.Self()
	leave, ok := x.access.enter(running, self.User)
	if !ok { // since permit looked
		c.Close()
		return answer.Errorf(answer.Denied, "endpoint %s does not allow user %s to reach %s", self.Name, f.Peer().User, target)
	}
	return x.carry(ctx, f, &reached{c, protocol, func() {}, traffic.DefaultIdle, leave})
}

// dialPermitted connects to a target, at one of the addresses if there are any.
func dialPermitted(ctx context.Context, protocol string, target spec.Address, addrs []netip.Addr) (net.Conn, error) {
	if len(addrs) == 0 {
		return dialTarget(ctx, protocol, target, dialTimeout)
	}
	c, _, err := reach.Dialer{}.Any(ctx, protocol, addrs, target.First)
	if err != nil {
		return nil, reach.Explain("target "+target.String(), err)
	}
	return c, nil
}
