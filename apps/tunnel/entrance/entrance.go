// Package entrance is the entrance of tunnels: it listens, and takes each connection to an exit.
// udp.go does that with datagrams. The way of one connection:
//
//	Accept -> forward -> reach: order the exits, Mesh.Open at the first that takes it -> splice.Join
//
// It keeps four rules.
//
//  1. An error does not end the accept loop: it waits and goes on.
//  2. reach asks one exit after the other. An exit accepts once its target is connected. What the
//     client sends meanwhile travels with the question and is kept: a failed attempt loses nothing.
//  3. If no exit accepts, the client's connection is reset: it must not look like a server that had
//     nothing to say.
//  4. An exit that failed twice in a row is not asked for each client: see balance.Failures.
package entrance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/listen"
	"ztm/apps/reach"
	"ztm/apps/tunnel/proxyproto"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/apps/udp"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// openFlowTimeout is how long one exit may take to connect: more than its own [reach.Timeout], so
// that its answer arrives.
const openFlowTimeout = reach.Timeout + 5*time.Second

// Inbound is an Inbound at work.
type Inbound struct {
	Key      spec.Key                   // static
	mesh     apps.Mesh                  // static
	log      *slog.Logger               // static
	exits    *exits                     // static; for when the configuration names none
	path     string                     // static; of its flows, below the name of the app
	params   func(index int) url.Values // static; more parameters of the flows of one port of a range; nil for none
	observe  func(Event)                // static; called for every flow; may be nil
	pool     balance.Pool
	failed   balance.Failures // of exits, and of ports at them
	refusals *limit.Log       // static
	stats    traffic.Counters
	limits   traffic.Limiter
	queued   atomic.Int64  // bytes in the queues of all flows of datagrams
	group    traffic.Group // its listeners and its flows

	mu        sync.Mutex
	config    spec.Inbound
	listeners []*listener // as in config.Listens, ranges spread out
}

// New makes an inbound of a valid configuration. It listens when it is started.
func New(h apps.Host, config spec.Inbound) *Inbound {
	in := &Inbound{Key: config.Key, mesh: h.Mesh, log: h.Log.With("tunnel", config.Key.String()), config: config,
		exits: &exits{mesh: h.Mesh, state: h.State, key: config.Key, of: config.ExitsOf}, path: config.Key.String()}
	in.listeners = spread(config, nil)
	in.refusals = limit.NewLog(in.log)
	in.limits.Set(config.Limits)
	return in
}

// spread returns a listener for each port of a configuration, taking over those of old with the
// same address.
func spread(config spec.Inbound, old []*listener) []*listener {
	old = slices.Clone(old)
	var list []*listener
	for _, a := range config.Listens {
		for i := range a.Size() {
			address := a.At(i)
			l := newListener(config.Protocol, address)
			if j := slices.IndexFunc(old, func(o *listener) bool { return o.address == address }); j >= 0 {
				l = old[j]
				old = slices.Delete(old, j, j+1)
			}
			list = append(list, l)
		}
	}
	return list
}

// Prepare opens the listeners of a new configuration without changing anything for the present one,
// and returns them. undo takes it back.
func (in *Inbound) Prepare(config spec.Inbound) (list []*listener, undo func(), err error) {
	old := in.current()
	list = spread(config, old)
	undo = func() {
		for _, l := range list {
			if !slices.Contains(old, l) {
				l.close()
			}
		}
		in.reopen()
	}
	for _, l := range list {
		err := l.open()
		if answer.CodeOf(err) == answer.Conflict && makeWay(l, old, list) {
			err = l.open()
		}
		if err != nil {
			undo()
			return nil, nil, err
		}
	}
	return list, undo, nil
}

// makeWay closes those of the old listeners that are to go and are in the way of l: 127.0.0.1:80 in
// that of *:80.
func makeWay(l *listener, old, list []*listener) (did bool) {
	for _, o := range old {
		if o.address.Overlaps(l.address) && !slices.Contains(list, o) {
			o.close()
			did = true
		}
	}
	return did
}

// reopen replaces the listeners that were closed to make way for a configuration that then failed.
func (in *Inbound) reopen() {
	in.mu.Lock()
	in.listeners = slices.Clone(in.listeners)
	for i, l := range in.listeners {
		if l.isClosed() {
			in.listeners[i] = newListener(l.transport, l.address)
		}
	}
	in.mu.Unlock()
	in.Start()
}

// Commit makes a configuration and its listeners the present ones. Flows that run are left alone.
func (in *Inbound) Commit(config spec.Inbound, list []*listener) {
	in.mu.Lock()
	old := in.listeners
	in.config, in.listeners = config, list
	in.mu.Unlock()
	for _, l := range old {
		if !slices.Contains(list, l) {
			l.close()
		}
	}
	in.limits.Set(config.Limits)
	in.failed.Forget()
	in.Start()
}

// Start lets the listeners run that do not run yet.
func (in *Inbound) Start() {
	in.mu.Lock()
	defer in.mu.Unlock()
	i := 0
	for _, a := range in.config.Listens {
		for n := range a.Size() {
			in.startLocked(in.listeners[i], place{n, a.Size()})
			i++
		}
	}
}

func (in *Inbound) startLocked(l *listener, at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.place = at
	if l.stop != nil {
		return
	}
	stop, ok := in.group.Go(func(ctx context.Context) {
		l.run(ctx, in.log, func(ctx context.Context, socket io.Closer) { in.serve(ctx, l, socket) })
	})
	if ok {
		l.stop = stop
	}
}

// PinUser looks for exits, if it is open whose they are, before others offer the tunnel. If it
// fails, the first client does that.
func (in *Inbound) PinUser() {
	if len(in.Settings().Exits) > 0 {
		return
	}
	if user, err := in.exits.user(); err == nil && user == "" {
		in.group.Go(func(ctx context.Context) { in.exits.find(ctx) })
	}
}

// Choose says whose exits the inbound uses; "" leaves that to the next search.
func (in *Inbound) Choose(user string) error { return in.exits.choose(user) }

// Left notes that members have left the mesh: the user whose exits the inbound found is not asked
// again, under that name, once evicted.
func (in *Inbound) Left(gone func(apps.Peer) bool) {
	if user, did := in.exits.left(gone); did {
		in.log.Warn("the user whose exits this inbound used was evicted", "user", user)
	}
}

// End closes the listeners and the flows.
func (in *Inbound) End() {
	in.group.End()
	for _, l := range in.current() {
		l.close() // one that never ran
	}
}

func (in *Inbound) current() []*listener {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.listeners
}

// Settings returns the present configuration.
func (in *Inbound) Settings() spec.Inbound {
	in.mu.Lock()
	config := in.config
	in.mu.Unlock()
	return config
}

// serve serves one open listener until it is closed.
func (in *Inbound) serve(ctx context.Context, l *listener, socket io.Closer) {
	if socket, ok := socket.(*udp.Socket); ok {
		in.serveUDP(ctx, l, socket)
		return
	}
	listen.Accept(ctx, socket.(net.Listener), in.log, func(client net.Conn) {
		if _, ok := in.group.Go(func(ctx context.Context) { in.forward(ctx, l, client) }); !ok {
			splice.Abort(client)
		}
	})
}

// forward carries one connection of a client to an exit. A flow at rest waits in here.
func (in *Inbound) forward(ctx context.Context, l *listener, client net.Conn) {
	leave, err := in.limits.Enter(in.Key)
	if err != nil {
		in.refuse(client, "", err)
		return
	}
	defer leave()
	if c := in.connect(ctx, l, client); c != nil {
		c.over(splice.Join(ctx, c.outer, c.flow))
	}
}

// connect opens the flow of a client, or turns it away and returns nil.
func (in *Inbound) connect(ctx context.Context, l *listener, client net.Conn) *carried {
	early := apps.NewEarly(client)
	flow, exit, err := in.take(ctx, l, early)
	if err != nil {
		in.refuse(client, exit, err)
		return nil
	}
	c := &carried{in: in, exit: exit, flow: flow, took: in.pool.Took(string(exit)), tally: in.stats.Flow(exit)}
	c.outer = traffic.Meter(early, &in.limits.Up, &in.limits.Down, c.tally.Up, c.tally.Down)
	c.ended = in.began(client.RemoteAddr())
	return c
}

// carried is one connection of a client on its way.
type carried struct {
	in          *Inbound
	exit        identity.ID
	outer, flow net.Conn
	took        func()
	tally       *traffic.Tally
	ended       func(up, down int64)
}

// over notes how a connection has ended.
func (c *carried) over(up, down int64, err error) {
	c.ended(up, down)
	if err != nil {
		c.in.log.Debug("flow broke", "peer", c.exit, "err", err)
	}
	c.tally.End()
	c.took()
}

// refuse turns a client away.
func (in *Inbound) refuse(client net.Conn, exit identity.ID, err error) {
	in.turnAway(client.RemoteAddr(), exit, err)
	splice.Abort(client)
}

// take finds out who the client is and opens its flow.
func (in *Inbound) take(ctx context.Context, l *listener, client *apps.Early) (net.Conn, identity.ID, error) {
	from, to := client.RemoteAddr(), client.LocalAddr()
	if in.Settings().AcceptProxy {
		defer context.AfterFunc(ctx, func() { splice.Abort(client) })()
		h, err := proxyproto.Receive(client)
		if err != nil {
			return nil, "", answer.Errorf(answer.BadRequest, "%v", err)
		}
		if h.Client.IsValid() {
			from, to = net.TCPAddrFromAddrPort(h.Client), net.TCPAddrFromAddrPort(h.Server)
		}
	}
	open := func(ctx context.Context, exit identity.ID, path string, q url.Values) (net.Conn, error) {
		return apps.OpenEarly(ctx, in.mesh, exit, path, q, client)
	}
	return in.reach(ctx, open, in.query(l, from, to))
}

// turnAway logs and counts a client that was turned away.
func (in *Inbound) turnAway(client net.Addr, exit identity.ID, err error) {
	in.stats.Failed(err)
	in.refusals.Info(string(exit)+string(answer.CodeOf(err)), "connection turned away", "client", client, "peer", exit, "err", err)
	if in.observe != nil {
		in.observe(Event{Client: fmt.Sprint(client), Error: err.Error()})
	}
}

// query returns the parameters of a flow: who the client is, and which port of a range it came to.
func (in *Inbound) query(l *listener, client, server net.Addr) url.Values {
	l.mu.Lock()
	at := l.place
	l.mu.Unlock()
	q := url.Values{}
	switch {
	case in.params != nil:
		q = in.params(at.index)
	case at.size > 1:
		q.Set(spec.PortParam, strconv.Itoa(at.index))
		q.Set(spec.PortsParam, strconv.Itoa(at.size))
	}
	switch client.(type) {
	case *net.TCPAddr, *net.UDPAddr: // the clients of a unix socket have no address
		q.Set(spec.ClientParam, client.String())
		q.Set(spec.ServerParam, server.String())
	}
	return q
}

// opener is [apps.Mesh.Open] or [apps.Mesh.OpenDatagrams].
type opener func(context.Context, identity.ID, string, url.Values) (net.Conn, error)

// reach opens a flow at one of the exits. On failure it returns the last exit that was tried, if
// any.
func (in *Inbound) reach(ctx context.Context, open opener, q url.Values) (net.Conn, identity.ID, error) {
	if explicit := in.Settings().Exits; len(explicit) > 0 {
		a := in.try(ctx, open, idStrings(explicit), q)
		return a.flow, a.exit, a.err
	}
	list, err := in.find(ctx)
	if err != nil {
		return nil, "", err
	}
	a := in.try(ctx, open, list, q)
	if a.err == nil || !a.asked || errors.Is(a.err, apps.ErrUnknownOutcome) {
		return a.flow, a.exit, a.err
	}
	// The exits may be others by now. If they are not, the failure stands.
	in.exits.forget()
	again, findErr := in.find(ctx)
	again = slices.DeleteFunc(slices.Clone(again), func(id string) bool { return slices.Contains(list, id) })
	if findErr != nil || len(again) == 0 {
		return nil, a.exit, a.err
	}
	a = in.try(ctx, open, again, q)
	return a.flow, a.exit, a.err
}

// find finds the exits. Where there are none, those that took flows before are forgotten.
func (in *Inbound) find(ctx context.Context) ([]string, error) {
	list, err := in.exits.find(ctx)
	if answer.CodeOf(err) == answer.NotFound {
		in.pool.Keep(nil)
	}
	return list, err
}

// attempt is what came of asking exits for a flow.
type attempt struct {
	flow  net.Conn
	exit  identity.ID // the last one that was tried, or would have been
	asked bool        // an exit was asked; otherwise all of them failed a moment ago, and err is how
	err   error
}

// try asks exits in order until one takes the flow. If none does, the error has the first one's
// code and what each of them said. None is asked after one that may have passed on what the client
// said, nor one that failed a moment ago.
func (in *Inbound) try(ctx context.Context, open opener, list []string, q url.Values) (a attempt) {
	var said []string
	var code answer.Code
	client, _ := netip.ParseAddrPort(q.Get(spec.ClientParam)) // none for a unix socket
	for _, id := range in.pool.Order(in.Settings().Balance, list, client.Addr().String()) {
		a.exit = identity.ID(id)
		done, err := in.failed.Try(id + " " + q.Get(spec.PortParam))
		if err == nil {
			a.asked = true
			a.flow, err = in.open(ctx, open, a.exit, q)
			done(outcome(ctx, err))
			switch {
			case err == nil:
				return a
			case ctx.Err() != nil:
				a.err = ctx.Err()
				return a
			}
			in.pool.Failed(id, err)
			if errors.Is(err, apps.ErrUnknownOutcome) {
				a.err = err
				return a
			}
		}
		said = append(said, fmt.Sprintf("exit %s: %v", id, err))
		code = cmp.Or(code, answer.CodeOf(err))
	}
	a.err = answer.Errorf(code, "%s", strings.Join(said, "; "))
	return a
}

// outcome returns what an attempt says of its exit: nothing, if we gave it up or if the exit is
// only busy. A limit that is met now may be free for the next flow.
func outcome(ctx context.Context, err error) error {
	if ctx.Err() != nil || answer.CodeOf(err) == answer.Limit {
		return context.Canceled
	}
	return err
}

func (in *Inbound) open(ctx context.Context, open opener, exit identity.ID, q url.Values) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openFlowTimeout)
	defer cancel()
	c, err := open(ctx, exit, spec.AppName+"/"+in.path, q)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, answer.Errorf(answer.Timeout, "no answer in %v", openFlowTimeout)
	}
	return c, err
}

func idStrings(ids []identity.ID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = string(id)
	}
	return list
}

// Status is an inbound and how it does.
type Status struct {
	spec.Inbound
	Listeners []ListenStatus   `json:"listeners"`
	ExitsUser string           `json:"exitsUser,omitempty"` // whose exits it uses, once that is decided and if it names none
	Health    []balance.Health `json:"health"`              // of the exits that were tried
	Stats     traffic.Stats    `json:"stats"`
}

// Status returns the configuration and how the inbound does.
func (in *Inbound) Status() Status {
	s := Status{Inbound: in.Settings(), Listeners: []ListenStatus{}, Stats: in.stats.Snapshot(), Health: in.pool.Health(nil)}
	if len(s.Exits) == 0 {
		s.ExitsUser, _ = in.exits.user() // unknown where the state cannot be read
	}
	for _, l := range in.current() {
		s.Listeners = append(s.Listeners, l.status())
	}
	return s
}
