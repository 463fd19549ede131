package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/directory"
	"ztm/hub/directory/directorytest"
	"ztm/store"
	"ztm/store/etcd"
	"ztm/store/etcd/etcdtest"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// mesh is a mesh of hubs that share an etcd.
type mesh struct {
	t      *testing.T
	id     identity.ID
	urls   []string          // of etcd
	etcd   *etcdtest.Cluster // nil: a real one
	member *etcdtest.Member
	limits directory.Limits
	now    func() time.Time
	hubs   []*hub
	away   bool // etcd does not answer

	timeout time.Duration // with etcd; zero: that of the product

	mu      sync.Mutex
	written map[string]directory.Endpoint // by document: nothing here is really signed
}

// hub is one of them.
type hub struct {
	*Directory
	mesh  *mesh
	path  string
	db    *store.DB
	trust *list
	stop  func()
	urls  []string // of etcd: each hub begins at another member
}

var limits = directory.Limits{Endpoints: 1000, OfUser: 1000, PageBytes: 1 << 20, NameKept: time.Hour, NamesOfUser: 100}

// newMesh makes a mesh whose etcd is well: a machine that does much else may take its time.
func newMesh(t *testing.T, l directory.Limits, now func() time.Time) *mesh {
	m := &mesh{t: t, id: identity.IDOf([]byte("mesh")), etcd: etcdtest.New(), limits: l, now: now, timeout: time.Minute, written: map[string]directory.Endpoint{}}
	m.member = m.etcd.Start()
	m.urls = []string{m.member.URL}
	t.Cleanup(m.member.Close)
	return m
}

// realMesh makes a mesh with a name of its own in an etcd that runs.
func realMesh(t *testing.T, urls []string, l directory.Limits, now func() time.Time) *mesh {
	return &mesh{t: t, id: identity.IDOf([]byte(t.Name())), urls: urls, limits: l, now: now, timeout: time.Minute, written: map[string]directory.Endpoint{}}
}

// add starts another hub.
func (m *mesh) add() *hub {
	h := &hub{mesh: m, path: filepath.Join(m.t.TempDir(), "hub.db"), trust: new(list), urls: m.urls}
	if n := len(m.hubs) % len(m.urls); n > 0 {
		h.urls = slices.Concat(m.urls[n:], m.urls[:n])
	}
	m.hubs = append(m.hubs, h)
	h.start()
	m.t.Cleanup(func() { h.stop() })
	return h
}

func (m *mesh) restart() {
	for _, h := range m.hubs {
		h.stop()
	}
	for _, h := range m.hubs {
		h.start()
	}
}

// open opens the directory of a hub, which does not run.
func (h *hub) open() *etcd.Client {
	m := h.mesh
	db, err := store.Open(h.path, nil, store.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	client, err := etcd.New(etcd.Config{Endpoints: h.urls, Timeout: m.timeout})
	if err != nil {
		m.t.Fatal(err)
	}
	h.db = db
	h.Directory, err = Open(db, Config{
		Client: client, Mesh: m.id, Hub: identity.IDOf([]byte(h.path)), Read: m.read, Trust: h.trust,
		Limits: m.limits, Now: m.now, Log: slog.New(slog.DiscardHandler),
		Timeout: m.timeout,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return client
}

func (h *hub) start() {
	m, client := h.mesh, h.open()
	db := h.db
	d, stop, stopped := h.Directory, make(chan struct{}), make(chan struct{})
	go func() { // awaited by stop
		defer close(stopped)
		d.Run(stop)
	}()
	h.stop = sync.OnceFunc(func() {
		close(stop)
		<-stopped
		client.Close()
		db.Close()
	})
	if !m.away {
		appstest.Eventually(m.t, "the hub follows etcd", func() bool { return d.Status().Relists > 0 })
	}
}

var errForged = errors.New("it is not signed")

// read is what verifies records: those are good that were put.
func (m *mesh) read(doc []byte) (identity.Record, identity.Subject, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.written[string(doc)]
	if !ok {
		return identity.Record{}, identity.Subject{}, errForged
	}
	return e.Record, e.Subject, nil
}

// signing is a directory that notes what is good when it is put.
type signing struct {
	*Directory
	mesh *mesh
}

func (s signing) Put(doc []byte, rec identity.Record, subject identity.Subject) error {
	s.mesh.sign(doc, rec, subject)
	return s.Directory.Put(doc, rec, subject)
}

func (m *mesh) sign(doc []byte, rec identity.Record, subject identity.Subject) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written[string(doc)] = directory.Endpoint{Doc: doc, Record: rec, Subject: subject}
}

func TestADirectoryThatHubsShareIsADirectory(t *testing.T) {
	directorytest.Run(t, func(t *testing.T, l directory.Limits, now func() time.Time) directorytest.Mesh {
		return newMesh(t, l, now).two()
	})
}

func TestADirectoryInARealEtcdOfThreeIsADirectory(t *testing.T) {
	appstest.Long(t)
	urls := etcdtest.Real(t, 3)
	directorytest.Run(t, func(t *testing.T, l directory.Limits, now func() time.Time) directorytest.Mesh {
		return realMesh(t, urls, l, now).two()
	})
}

// two starts two hubs.
func (m *mesh) two() directorytest.Mesh {
	given := 0
	m.add()
	m.add()
	return directorytest.Mesh{
		Hub:      func() directory.Directory { given++; return signing{m.hubs[given%2].Directory, m} },
		Unlinked: true,
		Restart:  m.restart,
	}
}

// list is a trust list of the tests: it follows those that it begins with.
type list struct {
	mu  sync.Mutex
	doc []byte
}

func (l *list) Document() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doc
}

func (l *list) Follows(old, next []byte) bool {
	return len(next) > len(old) && string(next[:len(old)]) == string(old)
}

func (l *list) Take(doc []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(doc) < 5 || string(doc[:5]) != "list:" {
		return errForged
	}
	if l.doc != nil && !l.Follows(l.doc, doc) {
		return fmt.Errorf("it is not newer")
	}
	l.doc = doc
	return nil
}
