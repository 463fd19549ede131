// Package tunnel is the tunnel app: a port here is a service there.
//
// A tunnel has a name, such as tcp/web, and two kinds of ends. An outbound is its exit: it connects
// to targets, for those users that it names. An inbound is its entrance: it listens, and takes each
// connection to an endpoint that has the outbound of the same name:
//
//	client -> entrance: accept, choose an endpoint -> Mesh.Open ~~~ exit: permit, dial -> target
//
// This package keeps the ends that an endpoint has, and their configuration. Package spec defines
// what an end is.
//
// Whether a peer may use an outbound is decided at the exit, for every flow, on the verified peer.
// An inbound never picks an exit by luck: when endpoints of several users offer the name and allow
// it, it takes none and says so. Once it has found those of one user it stays with that user when
// others offer the name later.
package tunnel

import (
	"context"
	"errors"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/apps/settings"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
)

// App is the tunnel app of one endpoint in one mesh.
type App struct {
	host apps.Host // static

	editing sync.Mutex // held through a change of the configuration; taken before mu
	running bool       // guarded by editing
	stopped bool       // guarded by editing

	derived   map[spec.Key]string // owners of the outbounds that are not saved; guarded by editing, and written under mu too
	derivedIn map[spec.Key]string // the same of inbounds

	mu        sync.Mutex
	inbounds  map[spec.Key]*entrance.Inbound
	outbounds map[spec.Key]*exit.Outbound

	forwards *exit.Forwards // static

	savedInbounds  settings.Table[spec.Inbound]  // by key; changed under editing
	savedOutbounds settings.Table[spec.Outbound] // by key; changed under editing
	savedRules     settings.Value[[]spec.Allow]
}

// New makes the app with the tunnels that were saved. A tunnel that cannot be loaded is logged and
// left alone.
func New(h apps.Host) apps.App {
	a := &App{
		host: h, inbounds: map[spec.Key]*entrance.Inbound{}, outbounds: map[spec.Key]*exit.Outbound{}, derived: map[spec.Key]string{}, derivedIn: map[spec.Key]string{},
		savedInbounds:  settings.Table[spec.Inbound]{State: h.State, Prefix: spec.InboundKind + "/", Check: (*spec.Inbound).Validate},
		savedOutbounds: settings.Table[spec.Outbound]{State: h.State, Prefix: spec.OutboundKind + "/", Check: (*spec.Outbound).Validate},
		savedRules:     settings.Value[[]spec.Allow]{State: h.State, Key: "allow", Check: checkRules},
	}
	rules, err := a.savedRules.Get()
	a.forwards = exit.NewForwards(h, rules)
	err = errors.Join(err,
		a.savedInbounds.Each(func(_ string, c spec.Inbound) { a.inbounds[c.Key] = entrance.New(h, c) }),
		a.savedOutbounds.Each(func(_ string, c spec.Outbound) { a.outbounds[c.Key] = exit.New(h, c) }))
	if err != nil {
		h.Log.Error("some tunnels were not loaded", "err", err)
	}
	return a
}

// Name returns "tunnel".
func (a *App) Name() string { return spec.AppName }

// Run opens the listeners and publishes what is offered, until ctx ends. It returns when all
// listeners and their flows are closed.
func (a *App) Run(ctx context.Context) error {
	a.start()
	<-ctx.Done()
	a.stop()
	return nil
}

// Serve handles a flow of a peer:
//
//	tcp/NAME      udp/NAME      to an outbound
//	forward/tcp   forward/udp   to the address in the parameter "target", see forward.go
//	reverse/tcp   reverse/udp   listens here for the peer, see reverse.go
func (a *App) Serve(ctx context.Context, f apps.Flow) {
	switch kind, protocol, _ := strings.Cut(f.Path(), "/"); kind {
	case spec.ForwardPath:
		a.forwards.Handle(ctx, f, protocol)
	case spec.ReversePath:
		a.forwards.Answer(f, a.serveReverse(ctx, f, protocol))
	default:
		if o := a.wanted(f); o != nil {
			o.Answer(f, o.Serve(ctx, f)) // a flow at rest waits here
		}
	}
}

// Left ends the flows to addresses that were allowed to the peers, and takes no more connections to
// exits of theirs. All else that runs for a peer is a flow, and ends with it.
func (a *App) Left(gone func(apps.Peer) bool) {
	a.forwards.Cut(gone)
	for _, in := range a.allInbounds() {
		in.Left(gone)
	}
}

// wanted returns the outbound that a flow wants, or refuses the flow and returns nil.
func (a *App) wanted(f apps.Flow) *exit.Outbound {
	protocol, name, _ := strings.Cut(f.Path(), "/")
	o := a.outbound(spec.Key{Protocol: protocol, Name: name})
	if o == nil {
		self, code := a.host.Mesh.Self(), answer.NotFound
		if f.Peer().User != self.User { // what is not there and what is not theirs, others cannot tell apart
			code = answer.Denied
		}
		f.Refuse(answer.Errorf(code, "endpoint %s has no tunnel %s", self.Name, f.Path()))
	}
	return o
}

func (a *App) start() {
	a.editing.Lock()
	defer a.editing.Unlock()
	a.running = true
	for _, in := range a.allInbounds() {
		in.Start()
		in.PinUser()
	}
	for _, o := range a.allOutbounds() {
		o.Watch()
	}
	a.offer()
}

func (a *App) stop() {
	a.editing.Lock()
	defer a.editing.Unlock()
	a.stopped = true
	var ends sync.WaitGroup
	for _, in := range a.allInbounds() {
		ends.Go(in.End)
	}
	for _, o := range a.allOutbounds() {
		ends.Go(o.End)
	}
	ends.Wait()
}

func (a *App) inbound(k spec.Key) *entrance.Inbound {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inbounds[k]
}

func (a *App) outbound(k spec.Key) *exit.Outbound {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.outbounds[k]
}

// allInbounds returns the inbounds, sorted by key.
func (a *App) allInbounds() []*entrance.Inbound {
	a.mu.Lock()
	defer a.mu.Unlock()
	return spec.SortedValues(a.inbounds)
}

// allOutbounds returns the outbounds, sorted by key.
func (a *App) allOutbounds() []*exit.Outbound {
	a.mu.Lock()
	defer a.mu.Unlock()
	return spec.SortedValues(a.outbounds)
}
