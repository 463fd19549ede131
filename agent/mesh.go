package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
)

// mesh is one membership of this agent. It implements apps.Mesh.
type mesh struct {
	// static after construction
	agent    *Agent
	name     string
	log      *slog.Logger
	ring     *ring
	verifier *identity.Verifier
	ca       *identity.CA // nil unless this endpoint may sign
	pool     *pool
	server   *h2.Server
	apps     map[string]apps.App
	life     context.Context // ends when the mesh is left or the agent stops
	cancel   context.CancelFunc
	ended    chan struct{}  // closed when run has returned
	slots    chan struct{}  // a token for each event at work, capacity maxEvents
	changed  chan struct{}  // the record must be published again, capacity 1
	wg       sync.WaitGroup // goroutines of this mesh

	mu            sync.Mutex
	row           meshRow                        // guarded by mu
	cert          tls.Certificate                // guarded by mu
	subject       identity.Subject               // of cert; guarded by mu
	control       *tunnel.Session                // nil while there is none; guarded by mu
	hub           identity.Subject               // of control; guarded by mu
	hubAddress    string                         // the last good one; guarded by mu
	status        api.Status                     // guarded by mu
	statusErr     error                          // guarded by mu
	statusChanged chan struct{}                  // closed and replaced at each change; guarded by mu
	offers        map[string][]string            // per app; guarded by mu
	recordTime    int64                          // Unix ms of the last record; guarded by mu
	inbound       map[*inbound]struct{}          // sealed sessions that peers opened; guarded by mu
	flows         map[*flow]struct{}             // flows that peers opened; guarded by mu
	totals        map[identity.ID]*api.PeerStats // of flows that ended; guarded by mu
	outFlows      map[*outFlow]struct{}          // flows that we opened; guarded by mu
	names         map[identity.ID]string         // last names seen, for people; guarded by mu
}

var _ apps.Mesh = (*mesh)(nil)

func newMesh(a *Agent, name string, row meshRow) (*mesh, error) {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return nil, err
	}
	m := &mesh{
		agent: a, name: name, row: row, status: api.Connecting,
		verifier: identity.NewVerifier(trust, a.clock), statusChanged: make(chan struct{}),
		ended: make(chan struct{}), slots: make(chan struct{}, maxEvents), changed: make(chan struct{}, 1),
		offers: map[string][]string{}, inbound: map[*inbound]struct{}{}, flows: map[*flow]struct{}{},
		totals: map[identity.ID]*api.PeerStats{}, outFlows: map[*outFlow]struct{}{}, names: map[identity.ID]string{},
	}
	m.ring = newRing(ringSize)
	m.log = slog.New(tee(a.log.Handler(), m.ring)).With("mesh", name)
	if row.CAKey != "" {
		if m.ca, err = identity.ParseCA([]byte(row.CA), []byte(row.CAKey)); err != nil {
			return nil, err
		}
	}
	if err := m.setCertificate(row.Certificate); err != nil {
		return nil, err
	}
	m.life, m.cancel = context.WithCancel(context.Background())
	m.pool = newPool(m.dialPeer)
	m.server = h2.NewServer(http.HandlerFunc(m.servePeer), h2.Sealed(), m.log)
	m.apps = map[string]apps.App{}
	for _, c := range a.config.Apps {
		m.apps[c.Name] = c.New(apps.Host{
			Mesh: m, State: &appState{a.db, name + "/" + c.Name + "/"}, Log: m.log.With("app", c.Name),
			Offer: func(names []string) { m.offer(c.Name, names) },
			Cut:   func(match func(apps.Peer, string) bool) { m.cutFlows(c.Name, match) },
		})
	}
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
		m.wg.Go(func() {
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
	m.server.Close()
}

// setSession notes a control session that is ready, or its loss.
func (m *mesh) setSession(s *tunnel.Session, hub identity.Subject) {
	m.mu.Lock()
	defer m.mu.Unlock()
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
		Signer: m.ca != nil, Time: m.recordTime, Certificate: m.row.Certificate,
	}
	for app, names := range m.offers {
		for _, n := range names {
			r.Offers = append(r.Offers, app+"/"+n)
		}
	}
	slices.Sort(r.Offers)
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

func (m *mesh) offer(app string, names []string) {
	m.mu.Lock()
	same := slices.Equal(m.offers[app], names)
	m.offers[app] = slices.Clone(names)
	m.mu.Unlock()
	if !same {
		m.publish()
	}
}

// Name implements apps.Mesh.
func (m *mesh) Name() string { return m.name }

// Self implements apps.Mesh.
func (m *mesh) Self() apps.Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := apps.Endpoint{
		ID: m.agent.self, Name: m.row.Name, User: m.subject.User, Labels: slices.Clone(m.row.Labels),
		Version: m.agent.config.Version.Tag, Signer: m.ca != nil, Online: m.control != nil, Local: true,
	}
	for app, names := range m.offers {
		for _, n := range names {
			e.Offers = append(e.Offers, app+"/"+n)
		}
	}
	slices.Sort(e.Offers)
	return e
}

// Open implements apps.Mesh.
func (m *mesh) Open(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.open(ctx, to, path, query, false)
}

// OpenDatagrams implements apps.Mesh.
func (m *mesh) OpenDatagrams(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.open(ctx, to, path, query, true)
}

// openTimeout bounds the opening of a flow: the session and the exit's own dialling.
const openTimeout = 30 * time.Second

func (m *mesh) open(ctx context.Context, to identity.ID, path string, query url.Values, datagrams bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, apps.Errorf(apps.Timeout, "endpoint %s does not answer", to))
	defer cancel()
	for attempt := 0; ; attempt++ {
		session, err := m.pool.get(ctx, to)
		if err != nil {
			return nil, appError(err)
		}
		req, err := http.NewRequest(http.MethodPost, "http://peer/apps/"+path, nil)
		if err != nil {
			return nil, apps.Errorf(apps.BadRequest, "%v", err)
		}
		req.URL.RawQuery = query.Encode()
		word := rand.Text()
		req.Header.Set(flowHeader, word)
		c, resp, err := session.Open(ctx, req, datagrams)
		switch {
		case err == nil && c != nil:
			return m.track(session.Peer.ID, c, word), nil
		case err == nil:
			return nil, responseError(resp)
		case ctx.Err() != nil:
			return nil, appError(context.Cause(ctx))
		case attempt > 0 || session.Err() == nil:
			return nil, appError(err)
		}
		// The warm session had died unnoticed: the request reached nobody, or nobody who will answer. Once more on a new one.
		session.Close()
	}
}

// responseError reads a peer's refusal.
func responseError(resp *http.Response) error {
	defer resp.Body.Close()
	e := &apps.Error{}
	if err := decodeLimited(resp.Body, e); err != nil || e.Message == "" {
		return apps.Errorf(apps.Broken, "the peer answered with status %s", resp.Status)
	}
	return e
}

// outFlow is a flow that we opened, for the counters.
type outFlow struct {
	*capsule.Conn
	m    *mesh
	peer identity.ID
	once sync.Once
}

// track counts the flow until it is closed.
func (m *mesh) track(peer identity.ID, c *capsule.Conn, word string) net.Conn {
	f := &outFlow{Conn: c, m: m, peer: peer}
	if peer != m.agent.self {
		c.OnBulk(func() { m.goLimited(func() { m.openLane(c, peer, word) }) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outFlows[f] = struct{}{}
	return f
}

func (f *outFlow) Close() error {
	err := f.Conn.Close()
	f.done()
	return err
}

func (f *outFlow) Reset() error {
	err := f.Conn.Reset()
	f.done()
	return err
}

func (f *outFlow) done() {
	f.once.Do(func() {
		f.m.mu.Lock()
		defer f.m.mu.Unlock()
		delete(f.m.outFlows, f)
		f.m.addTotalLocked(f.peer, f.Sent(), f.Received())
	})
}

func (m *mesh) addTotalLocked(peer identity.ID, sent, received int64) {
	t := m.totals[peer]
	if t == nil {
		t = &api.PeerStats{}
		m.totals[peer] = t
	}
	t.Sent += uint64(sent)
	t.Received += uint64(received)
}

// stats adds up what flows have moved, those that ended and those that run.
func (m *mesh) stats() api.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := api.Stats{Peers: map[identity.ID]api.PeerStats{}}
	for id, t := range m.totals {
		s.Peers[id] = *t
	}
	live := func(peer identity.ID, c *capsule.Conn) {
		p := s.Peers[peer]
		p.Sent += uint64(c.Sent())
		p.Received += uint64(c.Received())
		p.Flows++
		s.Peers[peer] = p
	}
	for f := range m.outFlows {
		live(f.peer, f.Conn)
	}
	for f := range m.flows {
		if f.conn != nil {
			live(f.peer.ID, f.conn)
		}
	}
	for id, p := range s.Peers {
		p.Name = m.names[id]
		s.Peers[id] = p
		s.Sent, s.Received, s.Flows = s.Sent+p.Sent, s.Received+p.Received, s.Flows+p.Flows
	}
	return s
}

// updateTrust takes a newer trust list: verified, kept on disk, and applied to everything that is open.
func (m *mesh) updateTrust(doc []byte) error {
	next, err := m.verifier.Trust().Update(doc)
	if err != nil {
		return err
	}
	if next.Version() <= m.verifier.Trust().Version() {
		return nil
	}
	if err := m.save(func(r *meshRow) { r.Trust = next.Document() }); err != nil {
		return err
	}
	m.verifier.Set(next)
	m.log.Info("new eviction list", "version", next.Version())
	m.cutEvicted()
	return nil
}

// save changes the row and writes it.
func (m *mesh) save(change func(*meshRow)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.row
	change(&row)
	if err := saveMesh(m.agent.db, m.name, row); err != nil {
		return err
	}
	m.row = row
	return nil
}

// cutEvicted ends every session with a peer that is not a member any more.
func (m *mesh) cutEvicted() {
	trust := m.verifier.Trust()
	m.pool.closeIf(func(s identity.Subject) bool { return trust.Evicted(s) })
	for _, in := range m.inbounds() {
		if trust.Evicted(in.peer) {
			m.log.Info("session cut: the user was evicted", "user", in.peer.User, "peer", in.peer.ID)
			in.conn.Close()
		}
	}
}

func (m *mesh) inbounds() []*inbound {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*inbound
	for in := range m.inbound {
		out = append(out, in)
	}
	return out
}

// describe is the membership for the local API.
func (m *mesh) describe() api.Mesh {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := api.Mesh{
		Name: m.name, ID: m.verifier.Trust().Mesh(), Hubs: slices.Clone(m.row.Hubs), Status: m.status,
		Signer: m.ca != nil, Trust: m.verifier.Trust().Version(),
		Agent: api.Agent{ID: m.agent.self, Name: m.row.Name, User: m.subject.User, Labels: slices.Clone(m.row.Labels),
			NotAfter: m.subject.NotAfter.Unix()},
	}
	if m.statusErr != nil {
		d.Error = strings.Join(strings.Fields(m.statusErr.Error()), " ")
	}
	return d
}

var errNotSigner = errors.New("this endpoint does not hold the mesh's CA key")
