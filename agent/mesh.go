package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ztm/agent/api"
	"ztm/agent/audit"
	"ztm/agent/audit/sink"
	"ztm/agent/authority"
	"ztm/agent/control"
	"ztm/agent/known"
	"ztm/agent/limits"
	"ztm/agent/notice"
	"ztm/agent/peers"
	"ztm/agent/policy"
	"ztm/agent/policy/keep"
	"ztm/agent/recent"
	"ztm/agent/state"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/memory"
	"ztm/tunnel/unixtime"
)

// recentLines is how many lines `ztm log ep` can show.
const recentLines = 200

// mesh is one membership of this agent. It implements apps.Mesh.
type mesh struct {
	// static after construction
	agent    *Agent
	name     string
	log      *slog.Logger
	peerLog  *limit.Log // of what peers can cause
	recent   *recent.Lines
	verifier *identity.Verifier
	peers    *peers.Peers
	control  *control.Control
	audit    *audit.Log
	sinks    *sink.Sinks // of audit
	notices  *notice.Teller
	apps     map[string]apps.App
	life     context.Context // ends when the mesh is left or the agent stops
	cancel   context.CancelFunc
	ended    chan struct{}    // closed when run has returned
	work     inflight.Tracker // goroutines and handlers of this mesh

	known    known.Directory // what the directory said last
	learning chan struct{}   // has a place for each question of learn

	limits   limits.Table              // static
	managing limit.Counts[identity.ID] // requests to manage this endpoint that have a body

	*state.Book
	authority *authority.Authority
	policy    *keep.Keeper
	meets     atomic.Value                   // a [direct.Mode]: the one that paths were last judged by
	asked     atomic.Pointer[tunnel.Session] // the session with a hub in which it was last asked which policy there is
}

var _ apps.Mesh = (*mesh)(nil)

func newMesh(a *Agent, name string, row authority.Row) (*mesh, error) {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return nil, err
	}
	m := &mesh{
		agent: a, name: name,
		verifier: identity.NewVerifier(trust, a.clock),
		ended:    make(chan struct{}), learning: make(chan struct{}, maxLearning), limits: limits.Within(memory.Here()), Book: state.NewBook(a.db, name, row),
	}
	m.recent = recent.Keep(recentLines)
	m.log = slog.New(m.known.Naming(recent.Tee(a.log.Handler(), m.recent))).With("mesh", name)
	m.peerLog = limit.NewLog(m.log)
	m.life, m.cancel = context.WithCancel(context.Background())
	m.authority, err = authority.New(authority.Config{
		Self: a.self, Key: a.key, Log: m.log, PeerLog: m.peerLog, Verifier: m.verifier, Book: m.Book, Work: &m.work, Life: m.life,
		Ends: func(user string) time.Time { return m.policy.Ends(user) }, TrustChanged: m.trustChanged, Admitted: m.admitted, Policy: func() []byte { return m.policy.ForPermit() },
	})
	if err != nil {
		m.cancel()
		return nil, err
	}
	m.control = control.New(control.Config{
		Mesh: name, Self: a.self, Dialer: a.dialer, Verifier: m.verifier, Certificate: m.authority.Certificate, Hubs: func() []string { return m.Membership().Hubs }, Record: m.record,
		Slots: a.slots(), Kept: row.HubRecords, Keep: m.keepHubs, Sign: a.signAttach, Log: m.log, PeerLog: m.peerLog, Limits: m.limits, Work: &m.work, Life: m.life,
		Event: m.authority.Event, Trust: m.syncTrust, HubsOf: m.known.HubsOf, Lost: func(hub identity.ID) { m.peers.Lost(hub) },
		Accept: func(ctx context.Context, path net.Conn, from identity.ID, user string, hub identity.ID) {
			m.learn(from)
			m.peers.Accept(ctx, path, from, user, hub)
		},
	})
	m.newAudit()
	m.newNotices()
	m.policy = m.newKeeper()
	m.meets.Store(m.mode())
	m.peers = peers.New(peers.Config{
		Self: a.self, Endpoint: m.Self, Verifier: m.verifier, Certificate: m.authority.Certificate, Log: m.log, PeerLog: m.peerLog,
		Limits: m.limits, Work: &m.work, Life: m.life, Hubs: m.control, Answer: m.answer, Audit: m.auditFlow, Answered: m.answered,
		Await: m.policy.AwaitRule, Judge: m.policy.Permit, Rule: m.policy.RuleOf, AtOnce: policy.Runs, Mark: m.policy.Mark,
		User: m.authority.User, Mode: m.mode, Network: a.config.Network,
	})
	m.authority.Connect(m, m.control, m.peers)
	m.apps = map[string]apps.App{}
	for _, c := range a.config.Apps {
		m.apps[c.Name] = c.New(apps.Host{
			Mesh: m, State: state.For(a.db, name, c.Name), Notary: notary{m, c.Name}, Dir: apps.Dir(a.config.Data, name, c.Name), Log: m.log.With("app", c.Name),
			Offer: func(names []string) { m.control.Offer(c.Name, names) },
			Names: m.policy.Names, API: m.apiOf,
			Cut: func(match func(apps.Peer, string) bool) { m.peers.Cut(c.Name, match) },
		})
	}
	m.peers.Serve(m.apps)
	return m, nil
}

// apiOf returns the API of an app, or nil.
func (m *mesh) apiOf(app string) http.Handler {
	if a := m.apps[app]; a != nil {
		return a.API()
	}
	return nil
}

// runApps starts the apps; they end with the mesh.
func (m *mesh) runApps() {
	for name, app := range m.apps {
		m.work.Go(func() {
			if err := app.Run(m.life); err != nil && m.life.Err() == nil {
				m.log.Error("app stopped", "app", name, "err", err)
			}
		})
	}
}

// run keeps the mesh alive until ctx or stop ends it, then waits for all it started.
func (m *mesh) run(ctx context.Context) {
	defer close(m.ended)
	defer context.AfterFunc(ctx, m.cancel)()
	defer context.AfterFunc(m.life, m.audit.Close)()
	m.startAudit()
	m.startNotices()
	m.runApps()
	m.work.Go(func() { m.peers.Run(m.life) })
	m.work.Go(m.authority.KeepCertificate)
	m.work.Go(m.authority.KeepSettling)
	m.work.Go(m.policy.Run)
	m.control.Run()
	m.peers.Close()
	<-m.work.Close()
	m.sinks.Close()
	m.control.DropStandby()
}

// stop ends the mesh and waits.
func (m *mesh) stop() {
	m.cancel()
	<-m.ended
}

// discard ends a mesh that was made but never run.
func (m *mesh) discard() {
	m.cancel()
	m.peers.Close()
}

// record signs this endpoint's record.
func (m *mesh) record(at unixtime.Millis, offers []string) ([]byte, error) {
	return m.agent.signRecord(m.Membership(), m.authority.Signs(), at, offers)
}

// signRecord signs the record of this device in a mesh.
func (a *Agent) signRecord(row authority.Row, signer bool, at unixtime.Millis, offers []string) ([]byte, error) {
	return identity.SignRecord(identity.Record{
		ID: a.self, Name: row.Name, Labels: row.Labels, Version: a.config.Version.Tag, Signer: signer, Ephemeral: row.Ephemeral, Time: at, Certificate: row.Certificate, Offers: offers,
	}, a.key)
}

// Name implements apps.Mesh.
func (m *mesh) Name() string { return m.name }

// Self implements apps.Mesh.
func (m *mesh) Self() apps.Endpoint {
	s, _ := m.control.Now()
	row := m.Membership()
	return apps.Endpoint{
		ID: m.agent.self, Name: row.Name, User: m.authority.User(), Labels: slices.Clone(row.Labels), Offers: m.control.Offers(),
		Version: m.agent.config.Version.Tag, Signer: m.authority.Signs(), Online: s != nil, Local: true,
	}
}

// describe is the membership for the local API.
func (m *mesh) describe() api.Mesh {
	status, err := m.control.Status()
	row, own := m.Membership(), m.authority.Own()
	d := api.Mesh{
		Name: m.name, ID: m.verifier.Trust().Mesh(), Hubs: slices.Clone(row.Hubs), Status: status,
		Signer: m.authority.Signs(), Trust: m.verifier.Trust().Version(), CA: m.verifier.Trust().Newest(),
		Agent: api.Agent{ID: m.agent.self, Name: row.Name, User: own.User, Labels: slices.Clone(row.Labels),
			NotAfter: own.NotAfter, Issuer: own.Issuer},
	}
	if err != nil {
		d.Error = oneLine(err)
	}
	return d
}

// oneLine is an error for a table.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
