// Package hub is the process of a mesh with a public address. A mesh has one, or several. It introduces agents to each
// other and carries bytes that it cannot read.
//
//	listen.go: TCP, TLS 1.3, who is it?
//	 ├─ ALPN ztm-control/1  api.go            requests, as JSON
//	 ├─ ALPN ztm-relay/1    leg.go, relay/    relayed paths
//	 └─ ALPN ztm-join/1     join.go           devices without a certificate
//
//	directory/     signed endpoint records, names, and who is online
//	sessions.go    agents that are attached
//	events.go      what the hub tells them: dial-backs, trust, requests for the CA key
//	peers.go       connections of known peers, so that those of an evicted user can be cut
//	admission/     connections of unknown peers, which of them gives way, and rates of requests
//	limits/        all limits on what others can take of the hub, and quotas.go what they have taken
//	links.go       links to other hubs of the mesh, which package link keeps
//	drain.go       how a hub ends
//	trust.go       the signed trust list, and forks.go others that differ from it
//	takeover/      whose a name is, when a device takes it back from another of its user
//	tokens.go      join tokens that this hub redeems, for endpoints of root
//	sign.go        requests that need the CA key, which is not here
//	renew.go       the hub's own certificate, and certificate/ which one it shows
//	away/          endpoints that went, and are forgotten
//	shared/        what hubs decide together, where they have a store
//	state/         what survives a restart, and how a mesh begins
//
// A hub is trusted with availability alone. It holds neither the mesh's CA key (except with
// --keep-ca) nor any key of a flow, and this package does not link the one that seals flows. The
// identity of a peer comes from its verified certificate alone.
package hub

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"ztm/hub/away"
	"ztm/hub/limits"
	"ztm/hub/relay"
	"ztm/hub/shared"
	"ztm/hub/state"
	"ztm/store/private"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/loopback"
)

// DefaultListen is the default listen address: port 8888 on all addresses.
const DefaultListen = ":8888"

// Limits bound what members and unknown connections can take of a hub.
type Limits = limits.Limits

// Config says how a hub runs.
type Config struct {
	Data        string        // directory of the state; made if there is none. Required
	Listen      string        // address:port, kept from then on; "" means the one before, and at first [DefaultListen]
	Names       []string      // host:port under which agents reach the hub; required for a new mesh, kept from then on
	Permit      string        // where a new mesh's root permit goes; "" means root.json in Data
	KeepCA      bool          // keep the CA key in the hub's database, to sign without a root endpoint
	Metrics     string        // loopback address:port for /metrics and /healthz; "" means none
	ForgetAfter time.Duration // endpoints that were away for so long leave the directory; 0: never
	Limits      Limits        // zero fields have the defaults of [Limits]
	Peers       []string      // host:port of other hubs of the mesh; kept from then on
	Store       shared.Store  // where hubs decide together; the zero value is nowhere
	Zone        string        // where the hub runs, see [identity.HubRecord]; kept from then on
	Weight      int           // its share of the agents, see [identity.HubRecord]; 0: as it was
	Drain       time.Duration // how long agents have to move to another hub at the end; 0 means [DefaultDrain]
	Version     string        // the version that the hub reports
	Log         *slog.Logger

	// Started, if not nil, is called once when the hub listens, before it accepts.
	Started func(Started)

	permitGiven bool // Permit was not left to New

	// Tests alone set these.
	ticket         time.Duration                                                         // how long a ticket is good
	drain          time.Duration                                                         // how long running paths have when a hub that is alone shuts down
	ping, silent   time.Duration                                                         // of links, see [link.Config]
	lookup         func(ctx context.Context, network, host string) ([]netip.Addr, error) // the same
	connectionRate limit.Rate                                                            // connections from one address
	joinRate       limit.Rate                                                            // requests to join from one address
	requestRate    limit.Rate                                                            // control requests of one endpoint, of each kind
	pageRate       limit.Rate                                                            // pages of the directory for one endpoint
	changeRate     limit.Rate                                                            // requests of one endpoint that may write to disk
	ephemeral      time.Duration                                                         // the pause in which an ephemeral endpoint may connect again
	renewAgain     time.Duration                                                         // how soon the hub tries again to renew its certificate
	tidy           time.Duration                                                         // how often the hub runs its periodic work
	clock          time.Time                                                             // the earliest time that the clock shows
}

// Started tells how a hub has started.
type Started struct {
	Mesh    identity.ID
	ID      identity.ID
	Address net.Addr
	Metrics net.Addr // nil without metrics
	Names   []string
	Permit  string // where a root permit was written in this start; "" if none was
}

// Hub is a hub that is ready to run. Make it with [New].
type Hub struct {
	config Config
}

// New checks a configuration. It touches nothing.
func New(c Config) (*Hub, error) {
	if c.Data == "" {
		return nil, fmt.Errorf("hub: no data directory is given")
	}
	if _, err := net.ResolveTCPAddr("tcp", cmp.Or(c.Listen, DefaultListen)); err != nil {
		return nil, fmt.Errorf("listen address %q: want [ip:]port", c.Listen)
	}
	for _, name := range c.Names {
		if err := identity.CheckHostPort(name); err != nil {
			return nil, fmt.Errorf("name %w", err)
		}
	}
	if err := checkMetrics(c.Metrics); err != nil {
		return nil, err
	}
	if err := c.Limits.Check(); err != nil {
		return nil, err
	}
	if err := checkPlace(c); err != nil {
		return nil, err
	}
	if err := c.Store.Check(); err != nil {
		return nil, err
	}
	c.Limits = c.Limits.WithDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.permitGiven = c.Permit != ""
	if !c.permitGiven {
		c.Permit = filepath.Join(c.Data, "root.json")
	}
	c.ticket = cmp.Or(c.ticket, relay.TicketLife)
	c.drain = cmp.Or(c.drain, drainTimeout)
	c.Drain = cmp.Or(c.Drain, DefaultDrain)
	c.tidy = cmp.Or(c.tidy, time.Hour)
	c.renewAgain = cmp.Or(c.renewAgain, renewAgain)
	c.ephemeral = cmp.Or(c.ephemeral, away.EphemeralAfter)
	c.connectionRate = cmp.Or(c.connectionRate, limits.ConnectionRate)
	c.joinRate = cmp.Or(c.joinRate, limits.JoinRate)
	c.requestRate = cmp.Or(c.requestRate, limits.RequestRate)
	c.pageRate = cmp.Or(c.pageRate, limits.PageRate)
	c.changeRate = cmp.Or(c.changeRate, limits.ChangeRate)
	return &Hub{config: c}, nil
}

// checkPlace checks what a hub says of itself to other hubs, and which of them it is told of.
func checkPlace(c Config) error {
	for _, peer := range c.Peers {
		if err := identity.CheckHostPort(peer); err != nil {
			return fmt.Errorf("peer %w", err)
		}
	}
	if c.Weight < 0 || c.Weight > identity.MaxHubWeight {
		return fmt.Errorf("weight %d is not from 1 to %d", c.Weight, identity.MaxHubWeight)
	}
	if c.Drain < 0 {
		return fmt.Errorf("drain time %v is negative", c.Drain)
	}
	return identity.CheckZone(c.Zone)
}

// checkMetrics refuses an address that other machines can reach.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	if err := loopback.Check(address); err != nil {
		return fmt.Errorf("metrics %w", err)
	}
	return nil
}

// Run runs the hub until ctx ends, then shuts it down: no new connections, up to 5 s for running paths,
// or Config.Drain where agents have another hub to go to, and then it closes everything. It returns
// when all that it started has ended. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	c := h.config
	if err := private.Dir(c.Data); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	o := state.Options{
		Data: c.Data, Names: c.Names, Permit: c.Permit, PermitGiven: c.permitGiven, KeepCA: c.KeepCA, Clock: c.clock, Log: c.Log,
		Listen: c.Listen, Peers: c.Peers, Zone: c.Zone, Weight: c.Weight,
	}
	st, err := state.Find(o)
	if err != nil {
		return err
	}
	defer func() { st.Close() }() // or of the one that is opened below
	// Listening comes before a first start: a port in use must not leave half a mesh behind.
	ln, err := c.listen(st)
	if err != nil {
		return err
	}
	defer ln.Close()
	metrics, err := loopback.ListenMetrics(c.Metrics)
	if err != nil {
		return err
	}
	if metrics != nil {
		defer metrics.Close()
	}
	if st == nil {
		if st, err = state.Open(c.Data, c.Log); err != nil {
			return err
		}
	}
	self, permit, err := state.Bootstrap(st, o)
	if err != nil {
		return err
	}
	s, err := newServer(c, st, self)
	if err != nil {
		return err
	}
	s.announce(ln, metrics, permit)
	s.run(ctx, ln, metrics)
	c.Log.Info("hub has stopped")
	return nil
}

// announce says that the hub has started. metrics may be nil.
func (s *server) announce(ln, metrics net.Listener, permit string) {
	started := Started{Mesh: s.mesh, ID: s.id, Address: ln.Addr(), Names: s.names, Permit: permit}
	if metrics != nil {
		started.Metrics = metrics.Addr()
	}
	if s.config.Started != nil {
		s.config.Started(started)
	}
	size, _ := s.directory.Size()
	s.log.Info("hub is running", "mesh", s.mesh, "id", s.id, "listen", ln.Addr().String(), "names", s.names,
		"endpoints", size, "trust", s.verifier.Trust().Version())
}
