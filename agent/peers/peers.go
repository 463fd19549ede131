// Package peers is what a device and its peers in one mesh have with each other: sealed sessions,
// and the flows in them.
//
//	out  Open, Ask       -> pool: warm, shared, bounded -> Hubs.Path -> seal -> flow
//	in   Accept: a path  -> seal -> session: one request = one flow, or one question
//	                                 flow     -> recent: not twice -> apps.App
//	                                 question -> Config.Answer
//
// A flow that moves much, out or in, gets a connection of its own: offload.go. Whatever a peer has
// here ends with its membership: members.go. What is done where a hub hangs: outsession.go. How flows
// come to go without a hub: direct.go.
package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"hash/maphash"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"ztm/agent/audit"
	"ztm/agent/direct"
	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/answer"
	meeting "ztm/tunnel/direct"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/handshake"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/seal"
	"ztm/tunnel/tuning"
)

// Config is what Peers need of the membership that they belong to. All of it is set.
type Config struct {
	Self        identity.ID
	Endpoint    func() apps.Endpoint // this endpoint
	Verifier    *identity.Verifier
	Certificate func() tls.Certificate
	Log         *slog.Logger
	PeerLog     *limit.Log // of what peers can cause
	Limits      limits.Table
	Work        *inflight.Tracker // what the membership waits for at its end
	Life        context.Context   // of the membership

	Hubs    Hubs // what paths go through
	User    func() string
	Mode    func() direct.Mode
	Network *meeting.Network // where this device meets others directly

	// Answer answers a request of a peer that is no flow.
	Answer func(w http.ResponseWriter, r *http.Request, peer identity.Subject)

	// Audit writes a line of the audit log, and does not wait.
	Audit func(audit.Line)

	// Judge returns nil if the policy of the mesh gives a peer what it asks of an app: path is what
	// stands below the app's name, address what the flow names of its own. It is asked before the app
	// is, for each flow, so that no app can forget to.
	Judge func(p apps.Peer, app, path, address string) error

	// Rule says what lets a peer that was judged have what it asks for, for the audit log.
	Rule func(p apps.Peer, app, path, address string) string

	// AtOnce reports whether the audit log has a line of a flow of an app when it is accepted, too.
	AtOnce func(app string) bool

	// Await gets ready to judge a flow that has come, and takes no longer than ctx.
	Await func(ctx context.Context, app, path, address string)

	// Mark adds to the headers of each answer to a peer but that of a flow that is accepted.
	Mark func(http.Header)

	// Answered is called with each answer of a peer, before its body is read.
	Answered func(s flow.Session, resp *http.Response)
}

// Peers is made with [New]. Its methods may be called from any goroutine.
type Peers struct {
	Config
	apps   map[string]apps.App // set by Serve, constant from then on
	pool   *pool
	direct *direct.Direct
	server *h2.Server
	refs   maphash.Seed // of what peers are told in place of reasons

	members members

	sessions   *limit.Share[string] // that peers opened, by user
	sessionsOf limit.Counts[identity.ID]
	turns      *handshake.Turns[string] // of handshakes on paths through hubs, by user
	offloads   limit.Counts[struct{}]

	mu       sync.Mutex
	inbound  map[*inbound]struct{}    // sealed sessions that peers opened; guarded by mu
	flows    map[*inFlow]struct{}     // flows that peers opened; guarded by mu
	named    map[flowKey]*inFlow      // flows, those that have an ID; guarded by mu
	recent   recent                   // flows that peers opened; guarded by mu
	outFlows map[*outFlow]struct{}    // flows that we opened; guarded by mu
	totals   map[identity.ID]*Traffic // of flows that ended; guarded by mu
}

// New makes the Peers of a membership.
func New(c Config) *Peers {
	p := &Peers{
		Config: c, refs: maphash.MakeSeed(), sessions: limit.NewShare[string](c.Limits.Sessions), turns: handshake.NewTurns[string](),
		inbound: map[*inbound]struct{}{}, flows: map[*inFlow]struct{}{}, named: map[flowKey]*inFlow{},
		recent: recent{most: max(c.Limits.FlowIDs, 1)}, outFlows: map[*outFlow]struct{}{}, totals: map[identity.ID]*Traffic{},
	}
	p.direct = direct.New(direct.Config{
		User: c.User, Mode: c.Mode, Network: c.Network, Verifier: c.Verifier, Certificate: c.Certificate, Log: c.Log, PeerLog: c.PeerLog,
		Work: c.Work, Life: c.Life, Known: p.acceptedOf, Met: p.met,
	})
	p.pool = newPool(p.dial, func(c *outSession) bool { return c.doubtful(p.Hubs) })
	p.server = h2.NewServer(server{p}, tuning.Sealed)
	return p
}

// Serve sets the apps that flows of peers reach. It is called once, before any of them can come.
func (p *Peers) Serve(byName map[string]apps.App) { p.apps = byName }

// Run closes sessions that are idle, and records flows that go on, until ctx ends.
func (p *Peers) Run(ctx context.Context) {
	ticker := time.NewTicker(reapEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.pool.reap(now)
			p.noteRunning(now)
			p.follow()
		case <-ctx.Done():
			return
		}
	}
}

// Close ends all sessions and flows, and opens no more.
func (p *Peers) Close() {
	p.server.Close()
	p.pool.close()
}

// dialSelf opens a sealed session with ourselves, over a pipe: an app that talks to itself takes
// the same way.
func (p *Peers) dialSelf(ctx context.Context) (*outSession, error) {
	near, far := net.Pipe()
	if !p.Work.Go(func() { p.Accept(p.Life, far, p.Self, p.User(), "") }) {
		return nil, answer.Errorf(answer.Unavailable, "the mesh was left")
	}
	s, err := seal.Client(ctx, near, p.Verifier, p.Certificate(), p.Self)
	if err != nil {
		return nil, answer.Lost(err)
	}
	return &outSession{Session: s}, nil
}

// Supersede has new flows open new sessions: those that are open rest on a certificate that was
// replaced.
func (p *Peers) Supersede() { p.pool.supersede() }

// Warm returns how many sessions that we opened with a peer are open.
func (p *Peers) Warm(id identity.ID) int { return p.pool.warm(id) }

// IDs lists the peers that there are sessions with, in no order; some may be there more than once.
func (p *Peers) IDs() []identity.ID {
	ids := p.pool.ids()
	for _, in := range p.inbounds() {
		ids = append(ids, in.peer.ID)
	}
	return ids
}

func (p *Peers) inbounds() []*inbound {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.inbound))
}

func (p *Peers) opened() []*outFlow {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.outFlows))
}

// reverify verifies a peer again: it may have been evicted since the handshake, and time goes on.
func (p *Peers) reverify(s identity.Subject) error {
	return p.Verifier.Trust().Reverify(s, p.Verifier.Clock().Now())
}

var errRunTwice = errors.New("the flow was answered already")
