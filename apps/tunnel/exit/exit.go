// Package exit is the exit of tunnels: it decides who may reach a target, and connects to it. The
// way of one flow:
//
//	Serve: is the peer allowed -> dial: order the targets, connect -> Flow.Accept -> carry: splice.Join
//
// It keeps three rules.
//
//  1. Access is decided for each flow, on its verified peer alone. What else the peer says does not
//     count.
//  2. A flow is accepted once its target is connected, so that the entrance learns what happened.
//  3. When access is taken away, the app cuts the flows of those who lost it.
package exit

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/tunnel/proxyproto"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/tunnel/answer"
)

// Outbound is an Outbound at work.
type Outbound struct {
	core
	Key    spec.Key                      // static
	mesh   apps.Mesh                     // static
	names  apps.Names                    // static
	config atomic.Pointer[spec.Outbound] // replaced, never changed
	pool   balance.Pool

	group   traffic.Group      // the checks
	unwatch context.CancelFunc // ends the checks; nil if there are none; guarded by App.editing
}

// New makes an outbound of a valid configuration.
func New(h apps.Host, config spec.Outbound) *Outbound {
	o := &Outbound{core: newCore(h.Log.With("tunnel", config.Key.String())), Key: config.Key, mesh: h.Mesh, names: h.Names}
	o.Change(config)
	return o
}

// Change makes a configuration the present one.
func (o *Outbound) Change(config spec.Outbound) {
	o.config.Store(&config)
	o.limits.Set(config.Limits)
	o.pool.Keep(config.TargetNames())
}

// Settings returns the present configuration. Its slices are shared: read them.
func (o *Outbound) Settings() spec.Outbound { return *o.config.Load() }

// End ends the checks. Flows are the mesh's to cut.
func (o *Outbound) End() { o.group.End() }

// Answer refuses a flow because of err, if there is one.
func (x *core) Answer(f apps.Flow, err error) {
	if err != nil {
		x.Stats.Failed(err) // first: the peer may ask for the count as soon as it is refused
		f.Refuse(err)
		if apps.IsDenial(err) {
			return // which is in the log of all apps
		}
		x.refusals.Info(string(f.Peer().ID), "flow refused", "peer", f.Peer().ID, "user", f.Peer().User, "err", err)
	}
}

// Serve handles a flow until it is over. An error means that it was not accepted.
//
// A flow at rest waits in here: what leads to its target is in admit, so that its stack is free
// again.
func (o *Outbound) Serve(ctx context.Context, f apps.Flow) error {
	to, err := o.admit(ctx, f)
	if to == nil {
		return err
	}
	return o.carry(ctx, f, to)
}

// admit connects a flow that is allowed to its target. It returns nil if there is nothing to carry,
// because the flow was answered or because of the error.
func (o *Outbound) admit(ctx context.Context, f apps.Flow) (*reached, error) {
	config := o.config.Load()
	denied := config.Allows(o.mesh.Self(), f.Peer(), o.names)
	if f.Query().Has(spec.ProbeParam) {
		answerProbe(f, denied)
		return nil, nil
	}
	if denied != nil {
		return nil, denied
	}
	targets, err := targetsOf(config, f.Query())
	if err != nil {
		return nil, err
	}
	leave, err := o.limits.Enter(o.Key)
	if err != nil {
		return nil, err
	}
	to, err := o.connect(ctx, f, config, targets)
	if err != nil {
		leave()
		return nil, err
	}
	over := to.leave
	to.leave = func() { over(); leave() }
	return to, nil
}

// connect connects a flow to one of the targets, and says who comes where the target wants that.
func (o *Outbound) connect(ctx context.Context, f apps.Flow, config *spec.Outbound, targets []spec.Address) (*reached, error) {
	target, name, over, err := o.dial(ctx, config.Balance, targets, source(f))
	if err != nil {
		return nil, err
	}
	header := proxyproto.New(f.Query().Get(spec.ClientParam), f.Query().Get(spec.ServerParam))
	if err := sendHeader(ctx, config.Proxy, target, header); err != nil {
		over()
		target.Close()
		return nil, err
	}
	refused := func() { o.pool.Failed(name, answer.Errorf(answer.Refused, "target %s refused the datagrams", name)) }
	return &reached{target, o.Key.Protocol, refused, config.Idle.Or(traffic.DefaultIdle), over}, nil
}

// sendHeader sends a target the PROXY header that it wants, if it wants one.
func sendHeader(ctx context.Context, v proxyproto.Version, target net.Conn, h proxyproto.Header) error {
	if v == "" {
		return nil
	}
	defer context.AfterFunc(ctx, func() { target.Close() })()
	if _, err := target.Write(h.Append(nil, v)); err != nil {
		return answer.Errorf(answer.Refused, "the target closed the connection before the PROXY header was sent")
	}
	return nil
}

// answerProbe tells a peer whether it is allowed: with a flow that carries nothing, or with the
// refusal. It is no event: peers ask before they know whom to ask.
func answerProbe(f apps.Flow, denied error) {
	if denied != nil {
		f.Refuse(denied)
	} else if c, err := f.Accept(); err == nil {
		c.Close()
	}
}

// targetsOf returns the addresses that a flow may go to: the targets, or the one port that it asks
// for of each of them.
func targetsOf(o *spec.Outbound, q url.Values) ([]spec.Address, error) {
	if len(o.Targets) == 0 {
		return nil, answer.Errorf(answer.Refused, "tunnel %s has no target that is ready", o.Key)
	}
	size := o.Targets[0].Size()
	ports, index := 1, 0
	if q.Has(spec.PortsParam) || q.Has(spec.PortParam) {
		var err1, err2 error
		ports, err1 = strconv.Atoi(q.Get(spec.PortsParam))
		index, err2 = strconv.Atoi(q.Get(spec.PortParam))
		if err1 != nil || err2 != nil || index < 0 || index >= ports {
			return nil, answer.Errorf(answer.BadRequest, "tunnel %s: the flow names no port of a range", o.Key)
		}
	}
	if ports != size {
		return nil, answer.Errorf(answer.BadRequest, "tunnel %s has %d ports at its exit and %d at its entrance: "+
			"they must be as many", o.Key, size, ports)
	}
	list := make([]spec.Address, len(o.Targets))
	for i, a := range o.Targets {
		list[i] = a.At(index)
	}
	return list, nil
}

// source returns whom [Source] looks at: the client, as the entrance names it, or else the
// entrance.
func source(f apps.Flow) string {
	if client, err := netip.ParseAddrPort(f.Query().Get(spec.ClientParam)); err == nil {
		return client.Addr().String()
	}
	return string(f.Peer().ID)
}

// dial connects to one of the targets and returns its name. The caller calls over when the flow is
// over.
func (o *Outbound) dial(ctx context.Context, b balance.Policy, targets []spec.Address, source string) (
	c net.Conn, name string, over func(), err error) {
	names := make([]string, len(targets))
	byName := map[string]spec.Address{}
	for i, a := range targets {
		names[i] = a.String()
		byName[names[i]] = a
	}
	var order []spec.Address
	for _, name := range o.pool.Order(b, names, source) {
		order = append(order, byName[name])
	}
	c, target, err := dialAny(ctx, o.Key.Protocol, order, func(a spec.Address, err error) { o.pool.Failed(a.String(), err) })
	if err != nil {
		return nil, "", nil, err
	}
	name = target.String()
	return c, name, o.pool.Took(name), nil
}

// Status is an outbound and how it does.
type Status struct {
	spec.Outbound
	Health []balance.Health `json:"health"` // of the targets
	Stats  traffic.Stats    `json:"stats"`
}

// Status returns the configuration and how the targets do.
func (o *Outbound) Status() Status {
	config := o.config.Load()
	return Status{Outbound: *config, Health: o.pool.Health(config.TargetNames()), Stats: o.Stats.Snapshot()}
}
