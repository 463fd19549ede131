package agent

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"ztm/agent/api"
	"ztm/agent/control"
	"ztm/agent/limits"
	"ztm/agent/peers"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/memory"
)

// mesh is one membership of this agent. It implements apps.Mesh.
type mesh struct {
	// static after construction
	agent    *Agent
	name     string
	log      *slog.Logger
	peerLog  *limit.Log // of what peers can cause
	ring     *ring
	verifier *identity.Verifier
	peers    *peers.Peers
	control  *control.Control
	apps     map[string]apps.App
	life     context.Context // ends when the mesh is left or the agent stops
	cancel   context.CancelFunc
	ended    chan struct{}    // closed when run has returned
	newer    chan uint64      // the version of the hub's trust list that is to be looked at, capacity 1
	trusted  chan struct{}    // there is a new trust list, capacity 1
	work     inflight.Tracker // goroutines and handlers of this mesh

	known known // what the directory said last

	limits   limits.Table         // static
	lists    *limit.Share[string] // trust lists that are read, by user
	listsOf  limit.Counts[identity.ID]
	managing limit.Counts[identity.ID] // requests to manage this endpoint that have a body
	signs    limit.Counts[struct{}]
	renewals *limit.Buckets[identity.ID]

	trustMu  sync.Mutex // held while a trust list is taken: the newest must be the one on disk
	rotateMu sync.Mutex // held while the CA is replaced: one next CA at a time
	settleMu sync.Mutex // held while evictions that no hub has taken are brought to one

	mu      sync.Mutex
	row     meshRow          // guarded by mu
	left    bool             // the row is not to be written any more; guarded by mu
	ca      *identity.CA     // nil unless this endpoint has a CA key, see signer; guarded by mu
	cert    tls.Certificate  // guarded by mu
	subject identity.Subject // of cert; guarded by mu
}

var _ apps.Mesh = (*mesh)(nil)

func newMesh(a *Agent, name string, row meshRow) (*mesh, error) {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return nil, err
	}
	m := &mesh{
		agent: a, name: name, row: row,
		verifier: identity.NewVerifier(trust, a.clock),
		ended:    make(chan struct{}), newer: make(chan uint64, 1), trusted: make(chan struct{}, 1),
		limits: limits.Within(memory.Here()), lists: limit.NewShare[string](limits.Lists),
		renewals: limit.NewBuckets[identity.ID](limit.Rate{Burst: limits.RenewalBurst, PerSecond: limits.RenewalRate}, limits.Renewing),
	}
	m.ring = newRing(ringSize)
	m.log = slog.New(naming{tee(a.log.Handler(), m.ring), &m.known}).With("mesh", name)
	m.peerLog = limit.NewLog(m.log)
	if row.CAKey != "" {
		if m.ca, err = identity.ParseCA([]byte(row.CA), []byte(row.CAKey)); err != nil {
			return nil, err
		}
	}
	if err := m.setCertificate(row.Certificate); err != nil {
		return nil, err
	}
	m.life, m.cancel = context.WithCancel(context.Background())
	m.control = control.New(control.Config{
		Mesh: name, Self: a.self, Dialer: a.dialer, Verifier: m.verifier, Certificate: m.certificate, Hubs: m.hubs, Record: m.record,
		Log: m.log, PeerLog: m.peerLog, Limits: m.limits, Work: &m.work, Life: m.life, Event: m.event, Follow: m.followTrust,
		Accept: func(ctx context.Context, path net.Conn, from identity.ID) { m.peers.Accept(ctx, path, from) },
	})
	m.peers = peers.New(peers.Config{
		Self: a.self, Name: func() string { return m.Self().Name }, Verifier: m.verifier, Certificate: m.certificate, Log: m.log, PeerLog: m.peerLog,
		Limits: m.limits, Work: &m.work, Life: m.life, Path: m.control.Path, Answer: m.answer, Answered: m.compareTrust,
	})
	m.apps = map[string]apps.App{}
	for _, c := range a.config.Apps {
		m.apps[c.Name] = c.New(apps.Host{
			Mesh: m, State: &appState{a.db, name + "/" + c.Name + "/"}, Log: m.log.With("app", c.Name),
			Offer: func(names []string) { m.control.Offer(c.Name, names) },
			Cut:   func(match func(apps.Peer, string) bool) { m.peers.Cut(c.Name, match) },
		})
	}
	m.peers.Serve(m.apps)
	return m, nil
}

// setCertificate puts a certificate of this device's key in use.
func (m *mesh) setCertificate(der []byte) error {
	cert, subject, err := m.agent.certificate(m.verifier, der)
	if err != nil {
		return err
	}
	m.verifier.SetOwn(subject)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cert, m.subject, m.row.Certificate = cert, subject, der
	return nil
}

func (m *mesh) certificate() tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cert
}

// user is whom this endpoint belongs to.
func (m *mesh) user() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.subject.User
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
	m.runApps()
	m.work.Go(func() { m.peers.Run(m.life) })
	m.work.Go(m.keepCertificate)
	m.work.Go(m.keepSettling)
	m.control.Run()
	m.peers.Close()
	<-m.work.Close()
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

// hubs lists the addresses of hubs.
func (m *mesh) hubs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.row.Hubs
}

// record signs this endpoint's record.
func (m *mesh) record(ms int64, offers []string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent.signRecord(m.row, m.signsLocked(), ms, offers)
}

// signRecord signs the record of this device in a mesh.
func (a *Agent) signRecord(row meshRow, signer bool, ms int64, offers []string) ([]byte, error) {
	return identity.SignRecord(identity.Record{
		ID: a.self, Name: row.Name, Labels: row.Labels, Version: a.config.Version.Tag, Signer: signer, Time: ms, Certificate: row.Certificate, Offers: offers,
	}, a.key)
}

// event handles what a hub asks. It does not block. Each kind of event has places of its own, so that none keeps another from being handled; the
// sender of an event that was dropped asks again.
func (m *mesh) event(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	switch e.Type {
	case tunnel.EventTrust:
		select {
		case <-m.newer: // an older one that nobody has looked at
		default:
		}
		m.newer <- e.Version // nobody else sends
	case tunnel.EventSign:
		if !m.work.GoUpTo(&m.signs, limits.Signs, func() { m.answerSign(s, hub, e) }) {
			m.peerLog.Warn("sign", "too many requests for a certificate at once: one was dropped")
		}
	}
}

// Name implements apps.Mesh.
func (m *mesh) Name() string { return m.name }

// Self implements apps.Mesh.
func (m *mesh) Self() apps.Endpoint {
	s, _ := m.control.Now()
	offers := m.control.Offers()
	m.mu.Lock()
	defer m.mu.Unlock()
	return apps.Endpoint{
		ID: m.agent.self, Name: m.row.Name, User: m.subject.User, Labels: slices.Clone(m.row.Labels), Offers: offers,
		Version: m.agent.config.Version.Tag, Signer: m.signsLocked(), Online: s != nil, Local: true,
	}
}

// save changes the row and writes it.
func (m *mesh) save(change func(*meshRow)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return answer.Errorf(answer.Unavailable, "mesh %s was left", m.name)
	}
	row := m.row
	change(&row)
	if err := saveMesh(m.agent.db, m.name, row); err != nil {
		return err
	}
	m.row = row
	return nil
}

// replaceRow writes the row of the membership that takes this one's place. From then on this one writes nothing any more.
func (m *mesh) replaceRow(row meshRow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := saveMesh(m.agent.db, m.name, row)
	m.left = m.left || err == nil
	return err
}

// forget deletes the membership from the database, for good unless it fails.
func (m *mesh) forget() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := deleteMesh(m.agent.db, m.name)
	m.left = err == nil
	return err
}

// describe is the membership for the local API.
func (m *mesh) describe() api.Mesh {
	status, err := m.control.Status()
	m.mu.Lock()
	defer m.mu.Unlock()
	d := api.Mesh{
		Name: m.name, ID: m.verifier.Trust().Mesh(), Hubs: slices.Clone(m.row.Hubs), Status: status,
		Signer: m.signsLocked(), Trust: m.verifier.Trust().Version(), CA: m.verifier.Trust().Newest(),
		Agent: api.Agent{ID: m.agent.self, Name: m.row.Name, User: m.subject.User, Labels: slices.Clone(m.row.Labels),
			NotAfter: m.subject.NotAfter, Issuer: m.subject.Issuer},
	}
	if err != nil {
		d.Error = strings.Join(strings.Fields(err.Error()), " ")
	}
	return d
}
