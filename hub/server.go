package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ztm/hub/directory"
	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// drainTimeout is how long running paths have once the hub shuts down.
const drainTimeout = 5 * time.Second

// rootUser is the user whose endpoints hold the CA key and may tidy up the directory. Only the CA
// makes certificates of that user.
const rootUser = "root"

// server is a running hub.
type server struct {
	// Static after construction.
	config    Config
	log       *slog.Logger
	state     *state
	mesh, id  identity.ID
	key       ed25519.PrivateKey
	names     []string
	ca        *identity.CA // nil unless the hub keeps the CA key
	since     time.Time
	note      string    // a note about this hub for people; may be empty
	past      time.Time // a time that is known to be past, kept by an earlier run
	verifier  *identity.Verifier
	directory directory.Directory
	sessions  *sessions
	peers     *peers
	relay     *relay
	signers   *signers
	metrics   *metrics
	h2        *h2.Server

	handshakes  *handshakes
	connections *limit.Buckets[netip.Addr]
	joins       *limit.Buckets[netip.Addr]
	requests    *allowances
	changes     *limit.Buckets[identity.ID]
	lists       *limit.Share[string]     // trust lists that are being read, by user
	rootLists   *limit.Share[string]     // the same of user root
	bodies      *limit.Share[string]     // other bodies that are being read, by user
	joining     limit.Counts[struct{}]   // devices that wait for a holder of the CA key
	joiningFrom limit.Counts[netip.Addr] // the same by source
	refusals    *limit.Log               // lines that peers can cause

	tls         *tls.Config
	certificate atomic.Pointer[certificates]
	trusting    sync.Mutex     // held while a new trust list is put in force
	handlers    tracker        // running HTTP handlers
	legs        sync.WaitGroup // running carry
}

func newServer(c Config, st *state, me self) (*server, error) {
	doc, err := st.trust()
	if err != nil {
		return nil, err
	}
	trust, err := identity.ParseTrust([]byte(me.CA), doc)
	if err != nil {
		return nil, fmt.Errorf("hub.db: %w", err)
	}
	key, err := identity.ParsePrivateKey([]byte(me.Key))
	if err != nil {
		return nil, fmt.Errorf("hub.db: %w", err)
	}
	s := &server{
		config: c, log: c.Log, state: st,
		mesh: trust.Mesh(), id: identity.IDOf(publicKey(key)), key: key, names: me.Names,
		since:       time.Now(),
		verifier:    identity.NewVerifier(trust, identity.NewClock(time.Unix(me.Seen, 0), c.clock)),
		past:        time.Unix(me.Seen, 0),
		peers:       newPeers(),
		metrics:     newMetrics(),
		connections: limit.NewBuckets[netip.Addr](c.connectionRate, maxBuckets()),
		joins:       limit.NewBuckets[netip.Addr](c.joinRate, maxBuckets()),
		requests:    newAllowances(c.requestRate, c.pageRate, maxBuckets()),
		changes:     limit.NewBuckets[identity.ID](c.changeRate, maxBuckets()),
		lists:       limit.NewShare[string](listsAtOnce),
		rootLists:   limit.NewShare[string](listsAtOnce),
		bodies:      limit.NewShare[string](bodiesAtOnce),
		refusals:    limit.NewLog(c.Log),
	}
	if me.Another {
		s.note = anotherHub
	}
	if c.KeepCA && me.Signer != nil {
		if s.ca, err = me.Signer.ca(); err != nil {
			return nil, fmt.Errorf("hub.db: %w", err)
		}
	}
	if s.directory, err = directory.Open(st.db, c.Limits.directory(), s.verifier.Clock().Now); err != nil {
		return nil, err
	}
	s.sessions = newSessions(s.directory)
	s.handshakes = newHandshakes(c.Limits.Handshakes, c.Limits.HandshakesPerSource, &s.metrics.refused.handshakes)
	s.relay = newRelay(c.Limits, c.ticket, s.sessions, s.metrics, s.log)
	s.signers = newSigners(signTimeout)
	s.setCertificate(me)
	s.tls = s.verifier.ServerConfig(s.presented, tunnel.ControlProto, tunnel.RelayProto, identity.JoinProto)
	return s, nil
}

// anotherHub is the note of a hub that was made with the root permit of an existing mesh.
const anotherHub = "this hub was made for a mesh that was there already. Hubs of a mesh do not know of each other: if another one runs, " +
	"the endpoints that are attached to it are offline here, and cannot be reached from here. Run one hub at a time"

func publicKey(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// run serves until ctx ends, and returns when everything has ended.
func (s *server) run(ctx context.Context, ln *net.TCPListener, metrics net.Listener) {
	// Paths outlive ctx by drainTimeout.
	paths, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.h2 = h2.NewTLSServer(tunnel.ControlProto, s.handler(paths), h2.Hub, s.log)

	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { s.directory.Run(stop) })
	background.Go(func() { s.tidy(ctx) })
	if metrics != nil {
		background.Go(func() { s.serveMetrics(ctx, metrics) })
	}

	s.accept(ctx, paths, ln) // returns when ctx has ended and so has all that it started, except relayed paths
	s.sessions.each(func(session *session) { session.end() })
	s.relay.drain(s.config.drain)
	cut()
	s.h2.Close()
	s.peers.cut(func(*peer) bool { return true })
	<-s.handlers.close()
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
	s.renew(ctx)
	for {
		retired := time.NewTimer(s.untilRetirement())
		select {
		case <-ctx.Done():
			retired.Stop()
			return
		case <-retired.C:
			s.expire()
		case <-s.signers.woken: // a root endpoint came online and may sign
			s.renew(ctx)
		case <-tick.C:
			s.expire()
			s.renew(ctx)
		case now := <-often.C:
			s.cutAbandoned(missing, now)
			s.sweep(now)
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
		if err := s.state.seen(floor); err != nil {
			s.log.Error("cannot save the time", "err", err)
		}
	}
}

// sweep removes idle entries from the tables of limits.
func (s *server) sweep(now time.Time) {
	for _, b := range []*limit.Buckets[netip.Addr]{s.connections, s.joins} {
		b.Sweep(now)
	}
	s.requests.sweep(now)
	s.changes.Sweep(now)
	for from := range s.peers.sources() { // a session may last for longer than a source is remembered
		s.handshakes.member(from, now)
	}
	s.handshakes.sweep(now)
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
