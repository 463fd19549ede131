// Package proxy lets programs reach what other endpoints can reach: a whole network or cluster, without a tunnel for
// each service.
//
// An exit is an endpoint that was given targets (`ztm proxy config --add-target '*.svc.cluster.local'`). An entrance
// is one that listens (`--set-listen 1080`). The way of one connection:
//
//	client -> entrance: one port for SOCKS4, SOCKS4a, SOCKS5 and HTTP     listen.go; socks, httpguard and web
//	       -> router:   which exit? by route, by target, by round trip    route
//	       -> mesh:     a flow to the exit's "proxy/tcp" or "proxy/udp"
//	       -> exit:     may this user? resolve, check again, connect      exit, policy
//	       -> target
//
// Programs that speak to no proxy ask for names alone: package dns.
//
// The client gets its answer when the exit has connected, and gets the exit's own reason if it has not.
//
// # Who may reach what
//
// The exit decides, for each flow, on the user of the flow's certificate. Its own user may reach its targets; another
// user only what a rule allows that names them. Names are resolved at the exit, and every address is checked again:
// against the exclusions, the targets and the rules. The exit's own loopback and link-local addresses, and those of the
// metadata services of clouds, are no targets unless a target names them; "*" and 0.0.0.0/0 do not. When targets,
// exclusions or rules change, the peers' connections that are no longer permitted end.
//
// The entrance chooses by itself among the exits of its own user and of users it was told to trust (`--add-trust`), because
// an exit sees what passes: no other user can attract its traffic by publishing a target. An exit of any user can be
// named for a pattern (`--add-via`).
//
// # Short names
//
// In a cluster, svc-a.svc means svc-a.svc.cluster.local. An exit publishes those search domains of its resolv.conf
// that lead to its targets, and an entrance sends it short names that are targets with such a domain appended: names
// of at most one dot, and names that end as the target does before the domain (svc-a.ns.svc). The exit resolves them
// in the order of resolv.conf(5), and decides on the full name. A name that some exit serves as it is written goes
// there; a short name that the exit does not know after all goes on to a catch-all exit ("*"), if there is one. A
// trailing dot makes a name full.
//
// # What it does not do
//
// It does not look into what it carries: no interception of TLS, no caching, no rewriting of content.
package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"ztm/apps"
	"ztm/apps/listen"
	"ztm/apps/proxy/clients"
	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/exit"
	"ztm/apps/proxy/policy"
	"ztm/apps/proxy/route"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// App is the proxy of one endpoint in one mesh: entrance and exit.
type App struct {
	// Static after construction.
	host        apps.Host
	log         *slog.Logger
	credentials *clients.Credentials
	sys         *dns.System
	exit        *exit.Exit
	exits       *route.Exits
	router      *route.Router
	entrance    *entrance
	resolver    *dns.Server
	listeners   *listeners

	config settings.Value[Config]
	users  settings.Value[map[string]clients.Credential]

	settings atomic.Pointer[inForce]

	mu sync.Mutex // held while a configuration is put in force
}

var _ apps.App = (*App)(nil)

// Keys of the State.
const (
	configKey      = "config"
	credentialsKey = "credentials"
)

// Options replace what the proxy uses of the system it runs on. The zero value is the system itself.
type Options = dns.Options

// New makes the proxy of an endpoint, configured as it was left.
func New(h apps.Host) apps.App { return NewWith(h, Options{}) }

// NewWith is New on a system that is replaced in part.
func NewWith(h apps.Host, o Options) *App {
	a := &App{host: h, log: h.Log, credentials: clients.NewCredentials()}
	a.config.State, a.config.Key = h.State, configKey
	a.users.State, a.users.Key = h.State, credentialsKey
	a.sys = dns.NewSystem(o, a.bound)
	a.exit = exit.New(func() *policy.Policy { return a.settings.Load().exit }, h.Names, a.sys, h.Log)
	here := exit.New(func() *policy.Policy { return a.settings.Load().direct }, h.Names, a.sys, h.Log)
	a.exits = route.NewExits(h.Mesh, func() (exit.Advertised, error) { return a.exit.Advertise(policy.User(h.Mesh.Self().User)) })
	a.router = route.NewRouter(h.Mesh, func() *route.Table { return a.settings.Load().routing }, a.exits, a.exit, here)
	a.entrance = newEntrance(a.router, a.credentials, h.Log)
	a.resolver = dns.NewServer(a.router, a.sys, h.Log)
	a.listeners = &listeners{want: a.wanted, open: a.open, changed: make(chan struct{}, 1), state: map[listenSpec]*listenerState{}}
	a.load()
	return a
}

// load puts the stored configuration in force. What cannot be read is no licence: then nothing is served.
func (a *App) load() {
	empty, _ := Config{}.read(a.host.Mesh.Self().User)
	a.settings.Store(empty)
	users, err := a.users.Get()
	if err != nil {
		a.log.Error("proxy is off: stored credentials are unusable", "err", err)
		return
	}
	a.credentials.Set(users)
	c, err := a.config.Get()
	if err == nil {
		var s *inForce
		if s, err = c.read(a.host.Mesh.Self().User); err == nil {
			a.settings.Store(s)
		}
	}
	if err != nil {
		a.log.Error("proxy is off: stored configuration is unusable", "err", err)
	}
}

var _ apps.Deciding = (*App)(nil)

// Rule implements [apps.Ruled].
func (a *App) Rule(name string) ([]string, error) { return a.exit.Rule(name) }

// Lets implements [apps.Deciding].
func (a *App) Lets(p apps.Peer, name string) bool { return a.exit.Lets(p, name) }

// Name returns "proxy".
func (a *App) Name() string { return "proxy" }

// Run serves clients until ctx ends.
func (a *App) Run(ctx context.Context) error {
	a.mu.Lock() // a change publishes what it makes of the configuration: the last one wins
	a.publish()
	a.mu.Unlock()
	var running sync.WaitGroup
	running.Go(func() { a.exits.Run(ctx) })
	running.Go(func() { a.entrance.web.Run(ctx) })
	running.Go(func() { a.listeners.run(ctx) })
	<-ctx.Done()
	a.entrance.clients.Close()
	running.Wait()
	return nil
}

// Serve handles a flow of a peer: this endpoint is its exit.
func (a *App) Serve(ctx context.Context, f apps.Flow) { a.exit.Serve(ctx, f) }

var _ apps.Listing = (*App)(nil)

// Rules implements [apps.Listing]. A rule for addresses lets a peer ask by a name as well, which is
// looked up here.
func (a *App) Rules() (map[string][]string, error) {
	return map[string][]string{"": a.exit.Named()}, nil
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge].
func (a *App) Judge(func(apps.Peer, string) bool) { a.exit.Revoke() }

// Left ends the flows of peers that have left, and forgets what their exits offered.
func (a *App) Left(gone func(apps.Peer) bool) {
	a.exit.Left(gone)
	a.exits.Left(gone)
}

// wanted returns the listeners that the configuration asks for.
func (a *App) wanted() []listenSpec {
	s := a.settings.Load()
	var out []listenSpec
	for _, l := range s.listens {
		out = append(out, listenSpec{listenAddr: l})
	}
	if s.dns != (listenAddr{}) {
		out = append(out, listenSpec{listenAddr: s.dns, dns: true})
	}
	return out
}

func (a *App) open(ctx context.Context, l listenSpec) (service, error) {
	var s service
	var err error
	if l.dns {
		s, err = a.resolver.Listen(ctx, l.network, l.address)
	} else {
		s, err = a.entrance.listen(ctx, l.listenAddr)
	}
	if err != nil {
		return nil, listen.Error(l.String(), l.port(), err)
	}
	return s, nil
}

// bound returns the addresses at which this proxy listens.
func (a *App) bound() []netip.AddrPort {
	var out []netip.AddrPort
	for _, d := range a.listeners.status() {
		if ap, err := netip.ParseAddrPort(d.Bound); err == nil {
			out = append(out, ap)
		}
	}
	return out
}

// publish tells the mesh whether this endpoint is an exit. The caller holds mu.
func (a *App) publish() {
	var names []string
	if len(a.settings.Load().exit.Targets) > 0 {
		names = []string{"exit"}
	}
	a.host.Offer(names)
}

// change lets f edit the configuration, saves the result and puts it in force. An error of f changes nothing. A
// configuration that was saved and is no longer valid can be edited until it is. What was changed is explained by w for
// the audit log.
func (a *App) change(w http.ResponseWriter, f func(*Config) error) error {
	owner := a.host.Mesh.Self().User
	edit := func(c *Config) error {
		if err := f(c); err != nil {
			return err
		}
		s, err := c.read(owner)
		if err != nil {
			return badRequest(err)
		}
		*c = s.text(*c)
		return nil
	}
	_, err := a.config.Change(edit, func(before, after Config) (settings.Prepared, error) {
		s, err := after.read(owner)
		return settings.Prepared{Commit: func() {
			a.enforce(s)
			answer.Explain(w, "%s", settings.Difference(before, after))
		}}, err
	})
	return err
}

// enforce puts a configuration in force.
func (a *App) enforce(s *inForce) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settings.Store(s)
	a.exit.Revoke()
	a.publish()
	a.listeners.wake()
}

// changeCredentials lets f edit the credentials, saves them and puts them in force. Clients that came in by others, or
// by none, are cut.
func (a *App) changeCredentials(f func(map[string]clients.Credential) error) error {
	edit := func(users *map[string]clients.Credential) error {
		if *users == nil {
			*users = map[string]clients.Credential{}
		}
		return f(*users)
	}
	_, err := a.users.Change(edit, func(before, after map[string]clients.Credential) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() {
			a.credentials.Set(after)
			a.entrance.clients.Cut(func(user string) bool {
				return len(after) > 0 && (user == "" || !slices.Equal(before[user].Hash, after[user].Hash))
			})
		}}, nil
	})
	return err
}

// pseudonym is a name for Via that says nothing about this endpoint.
func pseudonym() string {
	var b [6]byte
	rand.Read(b[:])
	return "ztm-" + hex.EncodeToString(b[:])
}

// endpointName returns the name of an endpoint, or its ID if it is not known.
func endpointName(all []apps.Endpoint, id identity.ID) string {
	for _, ep := range all {
		if ep.ID == id {
			return ep.Name
		}
	}
	return string(id)
}
