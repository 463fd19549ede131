// The exit of a tunnel; udp.go goes on with datagrams. The way of one flow:
//
//	Serve -> permit: is the peer allowed -> dialAny: order the targets, connect -> Flow.Accept -> splice.Join
//
//  1. permit looks at the verified peer of this very flow and at nothing else that the peer says.
//  2. The flow is accepted when the target has been reached, so that the entrance learns what really happened.
//  3. After a change that takes access away, the flows of those who lost it are cut (see App.setOutbound).

package tunnel

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/tunnel/answer"
)

// outbound is an Outbound at work.
type outbound struct {
	exit
	key    Key                      // static
	mesh   apps.Mesh                // static
	config atomic.Pointer[Outbound] // replaced, never changed
	pool   balance.Pool

	group   group              // the checks
	unwatch context.CancelFunc // ends the checks; nil if there are none; guarded by App.editing
}

func newOutbound(h apps.Host, config Outbound) *outbound {
	o := &outbound{exit: newExit(h.Log.With("tunnel", config.Key.String())), key: config.Key, mesh: h.Mesh}
	o.change(config)
	return o
}

// change makes a configuration the present one.
func (o *outbound) change(config Outbound) {
	o.config.Store(&config)
	o.limits.set(config.Limits)
	o.pool.Keep(config.targetNames())
}

// answer refuses a flow because of err, if there is one.
func (x *exit) answer(f apps.Flow, err error) {
	if err != nil {
		x.stats.failed(err) // first: who hears of the refusal may ask for the count
		f.Refuse(err)
		x.turned.Info(string(f.Peer().ID), "flow refused", "peer", f.Peer().ID, "user", f.Peer().User, "err", err)
	}
}

// serve handles a flow until it is over. An error means that it was not accepted.
func (o *outbound) serve(ctx context.Context, f apps.Flow) error {
	config := o.config.Load()
	denied := config.allows(o.mesh.Self(), f.Peer())
	if f.Query().Has(probeParam) {
		answerProbe(f, denied)
		return nil
	}
	if denied != nil {
		return denied
	}
	targets, err := targetsOf(config, f.Query())
	if err != nil {
		return err
	}
	leave, err := o.limits.enter(o.key)
	if err != nil {
		return err
	}
	defer leave()
	target, name, over, err := o.dial(ctx, config.Balance, targets, source(f))
	if err != nil {
		return err
	}
	defer over()
	header := newProxyHeader(f.Query().Get(clientParam), f.Query().Get(serverParam))
	if err := introduce(ctx, config.Proxy, target, header); err != nil {
		target.Close()
		return err
	}
	refused := func() { o.pool.Failed(name, answer.Errorf(answer.Refused, "target %s refused the datagrams", name)) }
	return o.carry(ctx, f, o.key.Protocol, reached{target, refused}, config.Idle.Or(defaultIdle))
}

// introduce sends a target the header that it wants, if it wants one.
func introduce(ctx context.Context, v ProxyProtocol, target net.Conn, h proxyHeader) error {
	if v == "" {
		return nil
	}
	defer context.AfterFunc(ctx, func() { target.Close() })()
	if _, err := target.Write(h.append(nil, v)); err != nil {
		return answer.Errorf(answer.Refused, "the target took the connection and no PROXY header")
	}
	return nil
}

// answerProbe tells a peer whether it is allowed: with a flow that carries nothing, or with the refusal. It is no
// event: peers ask before they know whom to ask.
func answerProbe(f apps.Flow, denied error) {
	if denied != nil {
		f.Refuse(denied)
	} else if c, err := f.Accept(); err == nil {
		c.Close()
	}
}

// targetsOf returns the addresses that a flow may go to: the targets, or the one port that it asks for of each of them.
func targetsOf(o *Outbound, q url.Values) ([]Address, error) {
	size := o.Targets[0].Size()
	ports, index := 1, 0
	if q.Has(portsParam) || q.Has(portParam) {
		var err1, err2 error
		ports, err1 = strconv.Atoi(q.Get(portsParam))
		index, err2 = strconv.Atoi(q.Get(portParam))
		if err1 != nil || err2 != nil || index < 0 || index >= ports {
			return nil, answer.Errorf(answer.BadRequest, "tunnel %s: the flow names no port of a range", o.Key)
		}
	}
	if ports != size {
		return nil, answer.Errorf(answer.BadRequest, "tunnel %s has %d ports at its exit and %d at its entrance: "+
			"they must be as many", o.Key, size, ports)
	}
	list := make([]Address, len(o.Targets))
	for i, a := range o.Targets {
		list[i] = a.At(index)
	}
	return list, nil
}

// source returns whom [Source] looks at: the client, as the entrance names it, or else the entrance.
func source(f apps.Flow) string {
	if client, err := netip.ParseAddrPort(f.Query().Get(clientParam)); err == nil {
		return client.Addr().String()
	}
	return string(f.Peer().ID)
}

// dial connects to one of the targets and returns its name. The caller calls over when the flow is over.
func (o *outbound) dial(ctx context.Context, b balance.Policy, targets []Address, source string) (
	c net.Conn, name string, over func(), err error) {
	names := make([]string, len(targets))
	byName := map[string]Address{}
	for i, a := range targets {
		names[i] = a.String()
		byName[names[i]] = a
	}
	var order []Address
	for _, name := range o.pool.Order(b, names, source) {
		order = append(order, byName[name])
	}
	c, target, err := dialAny(ctx, o.key.Protocol, order, func(a Address, err error) { o.pool.Failed(a.String(), err) })
	if err != nil {
		return nil, "", nil, err
	}
	name = target.String()
	return c, name, o.pool.Took(name), nil
}

// OutboundStatus is an outbound and how it does.
type OutboundStatus struct {
	Outbound
	Health []balance.Health `json:"health"` // of the targets
	Stats  Stats            `json:"stats"`
}

func (o *outbound) status() OutboundStatus {
	config := o.config.Load()
	return OutboundStatus{Outbound: *config, Health: o.pool.Health(config.targetNames()), Stats: o.stats.snapshot()}
}
