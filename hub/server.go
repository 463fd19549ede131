package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/hub/away"
	"ztm/hub/certificate"
	"ztm/hub/directory"
	"ztm/hub/forks"
	"ztm/hub/link"
	"ztm/hub/relay"
	"ztm/hub/shared"
	"ztm/hub/state"
	"ztm/hub/takeover"
	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/tuning"
)

// drainTimeout is how long running paths have once the hub shuts down.
const drainTimeout = 5 * time.Second

// server is a running hub.
type server struct {
	// Static after construction.
	config    Config
	log       *slog.Logger
	state     *state.State
	mesh, id  identity.ID
	key       ed25519.PrivateKey
	names     []string
	ca        *identity.CA // nil unless the hub keeps the CA key
	since     time.Time
	another   bool      // it was made with the root permit of a mesh that was there already
	past      time.Time // a time that is known to be past, kept by an earlier run
	verifier  *identity.Verifier
	directory directory.Directory
	shared    shared.Directory // the directory too, where hubs have a store; else nil
	sessions  *sessions
	links     *link.Links
	peers     *peers
	relay     *relay.Relay
	signers   *signers
	forks     forks.Forks
	away      *away.Watch
	claims    *takeover.Claims
	metrics   *metrics
	h2        *h2.Server

	*quotas

	tls         *tls.Config
	hubsChanged chan struct{} // holds a token when agents are to be told of other hubs; never closed
	certificate atomic.Pointer[certificate.Shown]
	trusting    sync.Mutex       // held while a new trust list is put in force
	handlers    inflight.Tracker // running HTTP handlers
	legs        sync.WaitGroup   // running carry
}

func newServer(c Config, st *state.State, me state.Self) (*server, error) {
	trust, err := st.Trust(me)
	if err != nil {
		return nil, err
	}
	key, err := identity.ParsePrivateKey([]byte(me.Key))
	if err != nil {
		return nil, fmt.Errorf("hub.db: %w", err)
	}
	s := &server{
		config: c, log: c.Log, state: st,
		mesh: trust.Mesh(), id: identity.IDOf(publicKey(key)), key: key, names: me.Names,
		since:       time.Now(),
		verifier:    identity.NewVerifier(trust, identity.NewClock(me.Seen.Time(), c.clock)),
		past:        me.Seen.Time(),
		peers:       newPeers(),
		hubsChanged: make(chan struct{}, 1),
		metrics:     newMetrics(),
	}
	s.quotas = newQuotas(c, s.metrics)
	s.another = me.Another
	if c.KeepCA && me.Signer != nil {
		if s.ca, err = me.Signer.CA(); err != nil {
			return nil, fmt.Errorf("hub.db: %w", err)
		}
	}
	s.directory, s.shared, err = shared.Open(shared.Config{
		Store: c.Store, DB: st.DB(), Mesh: s.mesh, Hub: s.id, CA: me.CA, Verifier: s.verifier, Take: host{s}.SetTrust,
		Limits: c.Limits.Directory(), Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	s.claims = &takeover.Claims{Directory: s.directory, Verifier: s.verifier, Log: s.log}
	s.away = &away.Watch{Directory: s.directory, Verifier: s.verifier, Log: s.log, Since: s.since, Pause: c.ephemeral, After: c.ForgetAfter}
	s.away.Gone = s.endpointGone
	s.sessions = newSessions(s.directory)
	s.signers = newSigners(signTimeout)
	s.setCertificate(me)
	if err := s.newLinks(me); err != nil {
		return nil, err
	}
	s.relay = relay.New(relay.Config{Limits: c.Limits, Ticket: c.ticket, Pace: s.pace, Sessions: s.sessions, Links: s.links, Log: s.log})
	s.tls = s.verifier.ServerConfig(s.presented, tunnel.ControlProto, tunnel.RelayProto, identity.JoinProto, tunnel.HubProto, tunnel.HopProto)
	return s, nil
}

func publicKey(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// run serves until ctx ends, and returns when everything has ended.
func (s *server) run(ctx context.Context, ln *net.TCPListener, metrics net.Listener) {
	// Paths outlive ctx by drainTimeout.
	paths, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.h2 = h2.NewServer(s.handler(paths), tuning.Hub)

	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { s.directory.Run(stop) })
	background.Go(func() { s.tidy(ctx) })
	linked, unlink := context.WithCancel(context.WithoutCancel(ctx)) // links outlive ctx as well
	defer unlink()
	background.Go(func() { s.links.Run(linked) })
	if metrics != nil {
		background.Go(func() { s.serveMetrics(ctx, metrics) })
	}

	s.accept(ctx, paths, ln) // returns when ctx has ended and so has all that it started, except relayed paths
	s.drain()
	unlink()
	cut()
	s.h2.Close()
	s.peers.cut(func(*peer) bool { return true })
	<-s.handlers.Close()
	s.legs.Wait()
	close(stop)
	background.Wait()
}

// tidy runs the periodic work: it expires certificates and renews the hub's own. It writes to disk
// only when something has changed.
func (s *server) tidy(ctx context.Context) {
	tick := time.NewTicker(s.config.tidy)
	defer tick.Stop()
	often := time.NewTicker(abandonedEvery)
	defer often.Stop()
	missing := absences{}
	s.expire() // a root permit may have brought a new trust list
	s.away.Find(time.Now())
	again := s.renew(ctx)
	changed, rested := s.hubsChanged, (<-chan time.Time)(nil)
	for {
		retired := time.NewTimer(s.untilRetirement())
		select {
		case <-ctx.Done():
			retired.Stop()
			return
		case <-retired.C:
			s.expire()
		case <-s.signers.woken: // a root endpoint may sign now, or has to
			again = s.renew(ctx)
		case <-again:
			again = s.renew(ctx)
		case now := <-tick.C:
			s.expire()
			again = s.renew(ctx)
			s.away.Forget(now)
		case <-changed:
			s.tellHubs()
			changed, rested = nil, time.After(tellHubsEvery)
		case <-rested:
			changed, rested = s.hubsChanged, nil
		case now := <-often.C:
			s.cutAbandoned(missing, now)
			s.away.ForgetLeavers(now)
			s.sweep(now, s.peers.sources())
		}
		retired.Stop()
	}
}

// expire cuts off peers whose certificates are no longer good, and removes their endpoints.
func (s *server) expire() {
	now := s.verifier.Clock().Now()
	s.peers.cut(func(p *peer) bool { return s.verifier.Trust().Reverify(p.Subject, now) != nil })
	gone, err := s.directory.Remove(true, func(sub identity.Subject) bool { return s.outdated(sub, s.verifier.Trust()) })
	if gone > 0 {
		s.log.Info("endpoints with certificates that are no longer valid were removed", "endpoints", gone)
	}
	if err != nil {
		s.log.Error("cannot save the directory", "err", err)
	}
	if floor, ok := s.verifier.Floor(); ok {
		if err := s.state.Seen(floor); err != nil {
			s.log.Error("cannot save the time", "err", err)
		}
	}
}

// outdated reports whether an endpoint can be forgotten: its user was evicted, or its certificate
// has expired by a time that is known to be past. The hub's own clock is not enough: it may be
// years ahead.
func (s *server) outdated(sub identity.Subject, trust *identity.Trust) bool {
	past, ok := s.verifier.Floor()
	if !ok {
		past = s.past
	}
	for _, t := range []time.Time{trust.Issued(), sub.NotBefore} {
		if t.After(past) {
			past = t
		}
	}
	return trust.Reverify(sub, past) != nil
}
