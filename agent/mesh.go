package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ztm/agent/api"
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
	spare    *spare
	apps     map[string]apps.App
	life     context.Context // ends when the mesh is left or the agent stops
	cancel   context.CancelFunc
	ended    chan struct{}    // closed when run has returned
	refused  chan string      // tickets of dial-backs that are not answered, capacity limits.Refusals
	newer    chan uint64      // the version of the hub's trust list that is to be looked at, capacity 1
	changed  chan struct{}    // the record must be published again, capacity 1
	trusted  chan struct{}    // there is a new trust list, capacity 1
	work     inflight.Tracker // goroutines and handlers of this mesh

	known known // what the directory said last

	limits      limits.Table         // static
	dialBacks   *limit.Share[string] // by user, as the hub has it
	dialBacksOf limit.Counts[identity.ID]
	lists       *limit.Share[string] // trust lists that are read, by user
	listsOf     limit.Counts[identity.ID]
	managing    limit.Counts[identity.ID] // requests to manage this endpoint that have a body
	signs       limit.Counts[struct{}]
	renewals    *limit.Buckets[identity.ID]

	trustMu  sync.Mutex // held while a trust list is taken: the newest must be the one on disk
	rotateMu sync.Mutex // held while the CA is replaced: one next CA at a time
	settleMu sync.Mutex // held while evictions that no hub has taken are brought to one

	mu            sync.Mutex
	row           meshRow             // guarded by mu
	left          bool                // the row is not to be written any more; guarded by mu
	ca            *identity.CA        // nil unless this endpoint has a CA key, see signer; guarded by mu
	cert          tls.Certificate     // guarded by mu
	subject       identity.Subject    // of cert; guarded by mu
	control       *tunnel.Session     // nil while there is none; guarded by mu
	hub           identity.Subject    // of control; guarded by mu
	lost          time.Time           // when control was lost, or the mesh was made; guarded by mu
	hubAddress    string              // the last good one; guarded by mu
	unreached     []string            // hub addresses at which the last attempt failed; guarded by mu
	status        api.Status          // guarded by mu
	statusErr     error               // guarded by mu
	statusChanged chan struct{}       // closed and replaced at each change; guarded by mu
	offersOf      map[string][]string // per app; guarded by mu
	offers        []string            // all of them, "APP/NAME", sorted; replaced, never changed; guarded by mu
	offered       int                 // how often offers changed; guarded by mu
	inDirectory   int                 // offered, as of the last record that the hub took; guarded by mu
	recordTime    int64               // Unix ms of the last record; guarded by mu
	fallbacks     atomic.Int64        // paths that are streams of the control session
}

var _ apps.Mesh = (*mesh)(nil)

func newMesh(a *Agent, name string, row meshRow) (*mesh, error) {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return nil, err
	}
	m := &mesh{
		agent: a, name: name, row: row, status: api.Connecting, lost: time.Now(),
		verifier: identity.NewVerifier(trust, a.clock), statusChanged: make(chan struct{}),
		ended: make(chan struct{}), refused: make(chan string, limits.Refusals), newer: make(chan uint64, 1), changed: make(chan struct{}, 1), trusted: make(chan struct{}, 1),
		offersOf: map[string][]string{}, limits: limits.Within(memory.Here()), lists: limit.NewShare[string](limits.Lists),
		renewals: limit.NewBuckets[identity.ID](limit.Rate{Burst: limits.RenewalBurst, PerSecond: limits.RenewalRate}, limits.Renewing),
	}
	m.dialBacks = limit.NewShare[string](m.limits.DialBacks)
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
	m.spare = &spare{}
	m.peers = peers.New(peers.Config{
		Self: a.self, Name: func() string { return m.Self().Name }, Verifier: m.verifier, Certificate: m.certificate, Log: m.log, PeerLog: m.peerLog,
		Limits: m.limits, Work: &m.work, Life: m.life, Path: m.path, Answer: m.answer, Answered: m.compareTrust,
	})
	m.apps = map[string]apps.App{}
	for _, c := range a.config.Apps {
		m.apps[c.Name] = c.New(apps.Host{
			Mesh: m, State: &appState{a.db, name + "/" + c.Name + "/"}, Log: m.log.With("app", c.Name),
			Offer: func(names []string) { m.offer(c.Name, names) },
			Cut:   func(match func(apps.Peer, string) bool) { m.peers.Cut(c.Name, match) },
		})
	}
	m.peers.Serve(m.apps)
	return m, nil
}

// setCertificate puts a certificate of this device's key in use. It need not be valid now: a clock may be wrong, and the
// hub is the one to say so.
func (m *mesh) setCertificate(der []byte) error {
	cert := identity.TLSCertificate(der, m.agent.key)
	subject, err := m.verifier.Inspect(der, identity.RoleMember)
	if err != nil {
		return err
	}
	if subject.ID != m.agent.self {
		return fmt.Errorf("the certificate is for endpoint %s, this device is %s", subject.ID, m.agent.self)
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

// setSession notes a control session that is ready, or its loss.
func (m *mesh) setSession(s *tunnel.Session, hub identity.Subject) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s == nil && m.control != nil {
		m.lost = time.Now()
	}
	m.control, m.hub = s, hub
	if s != nil {
		m.hubAddress = s.Address()
		m.setStatusLocked(api.Connected, nil)
		m.log.Info("connected", "hub", s.Address())
	}
}

func (m *mesh) setStatus(s api.Status, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s == api.Connecting {
		err = m.statusErr // what went wrong last is worth knowing while we try again
	}
	m.setStatusLocked(s, err)
}

func (m *mesh) setStatusLocked(s api.Status, err error) {
	m.status, m.statusErr = s, err
	close(m.statusChanged)
	m.statusChanged = make(chan struct{})
}

// hubAddresses lists where to look for a hub, the last good address first.
func (m *mesh) hubAddresses() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(m.row.Hubs)
	if i := slices.Index(out, m.hubAddress); i > 0 {
		out[0], out[i] = out[i], out[0]
	}
	return out
}

// record makes this endpoint's signed record as of now.
func (m *mesh) record() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recordTime = max(m.agent.clock.Now().UnixMilli(), m.recordTime+1)
	r := identity.Record{
		ID: m.agent.self, Name: m.row.Name, Labels: m.row.Labels, Version: m.agent.config.Version.Tag,
		Signer: m.signsLocked(), Time: m.recordTime, Certificate: m.row.Certificate, Offers: m.offers,
	}
	return identity.SignRecord(r, m.agent.key)
}

// raiseRecordTime goes on from a newer record; false if it is not newer.
func (m *mesh) raiseRecordTime(ms int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ms < m.recordTime {
		return false
	}
	m.recordTime = ms
	return true
}

// publish has the record published again soon.
func (m *mesh) publish() {
	select {
	case m.changed <- struct{}{}:
	default: // it will be already
	}
}

// publishPatience is how long a change of offers waits for the hub.
const publishPatience = 2 * time.Second

// published waits until the directory has a record as new as this moment, if there is a hub to have it: who was told that a
// tunnel is open must be able to use it.
func (m *mesh) published() {
	timer := time.NewTimer(publishPatience)
	defer timer.Stop()
	m.mu.Lock()
	want := m.offered
	for m.control != nil && m.inDirectory < want {
		changed := m.statusChanged
		m.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-m.life.Done():
			return
		}
		m.mu.Lock()
	}
	m.mu.Unlock()
}

func (m *mesh) offer(app string, names []string) {
	m.mu.Lock()
	same := slices.Equal(m.offersOf[app], names)
	if !same {
		m.offersOf[app] = slices.Clone(names)
		m.offers = nil
		for app, names := range m.offersOf {
			for _, n := range names {
				m.offers = append(m.offers, app+"/"+n)
			}
		}
		slices.Sort(m.offers)
		m.offered++
	}
	m.mu.Unlock()
	if !same {
		m.publish()
		m.published()
	}
}

// Name implements apps.Mesh.
func (m *mesh) Name() string { return m.name }

// Self implements apps.Mesh.
func (m *mesh) Self() apps.Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return apps.Endpoint{
		ID: m.agent.self, Name: m.row.Name, User: m.subject.User, Labels: slices.Clone(m.row.Labels), Offers: m.offers,
		Version: m.agent.config.Version.Tag, Signer: m.signsLocked(), Online: m.control != nil, Local: true,
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
	m.mu.Lock()
	defer m.mu.Unlock()
	d := api.Mesh{
		Name: m.name, ID: m.verifier.Trust().Mesh(), Hubs: slices.Clone(m.row.Hubs), Status: m.status,
		Signer: m.signsLocked(), Trust: m.verifier.Trust().Version(), CA: m.verifier.Trust().Newest(),
		Agent: api.Agent{ID: m.agent.self, Name: m.row.Name, User: m.subject.User, Labels: slices.Clone(m.row.Labels),
			NotAfter: m.subject.NotAfter, Issuer: m.subject.Issuer},
	}
	if m.statusErr != nil {
		d.Error = strings.Join(strings.Fields(m.statusErr.Error()), " ")
	}
	return d
}
