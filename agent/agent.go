// Package agent keeps this device in its meshes and decides what others may do here.
//
//	Agent                one process: the device's key, the database, the local API
//	└─ mesh              one membership; it puts together what follows, and its apps
//	   ├─ control        the sessions with hubs: which, dial, register, events, paths to peers
//	   ├─ peers          sealed sessions with peers, and the flows in them
//	   ├─ authority      certificate, trust list, CA key: who is a member
//	   ├─ book           the membership on disk
//	   └─ directory.go   who is in the mesh, every record verified
//
// What others can take of the device is one table: package limits.
//
// It opens no port: everything goes out to the hub. Apps get the [apps.Mesh] that mesh.go
// implements.
package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/local"
	"ztm/agent/state"
	"ztm/agent/web"
	"ztm/apps"
	"ztm/store"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/loopback"
)

// Config is how an agent runs. Only Data is required.
type Config struct {
	Data    string        // the data directory; made with mode 0700 if it is not there
	Proxy   *tunnel.Proxy // through which hubs are reached; nil is directly
	Log     *slog.Logger  // nil discards
	Version api.Version
	Metrics string      // loopback address:port for counters; "": none
	Built   time.Time   // when the binary was built, a floor for the clock; zero: none
	Apps    []apps.Kind // what each mesh runs
	Hubs    int         // with how many hubs of a mesh there are sessions; 0: two, or one where memory is scarce

	// Console makes what serves [api.ConsolePath]; nil: this binary has no console for browsers.
	Console func(web.Host) http.Handler

	// Network is where this device meets others without a hub; nil: that of the system.
	Network *direct.Network
}

// Agent is one agent. Make it with [New], then [Agent.Run] it once.
type Agent struct {
	// static after construction
	config   Config
	log      *slog.Logger
	db       *store.DB
	key      ed25519.PrivateKey
	self     identity.ID
	clock    *identity.Clock
	instance instance
	dialer   *tunnel.Dialer
	stop     context.CancelCauseFunc
	life     context.Context // ends when Run is to end; meshes live inside it

	mu     sync.Mutex
	meshes map[string]*mesh // guarded by mu
	busy   map[string]bool  // names being joined or left; guarded by mu
	wg     sync.WaitGroup   // one for each running mesh
}

// New opens the database, makes the device's key if there is none, and prepares the meshes that
// were joined. The caller calls Close if it does not call Run.
func New(c Config) (*Agent, error) {
	if err := local.CheckCounters(c.Metrics); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Network == nil {
		c.Network = direct.System()
	}
	db, err := state.Open(c.Data, c.Log)
	if err != nil {
		return nil, err
	}
	a := &Agent{config: c, log: c.Log, db: db, dialer: &tunnel.Dialer{Proxy: c.Proxy},
		meshes: map[string]*mesh{}, busy: map[string]bool{}}
	a.life, a.stop = context.WithCancelCause(context.Background())
	if err := a.load(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Agent) load() error {
	d, err := state.LoadDevice(a.db)
	if err != nil {
		return err
	}
	if a.key, err = identity.ParsePrivateKey(d.Key); err != nil {
		return fmt.Errorf("%s: %v", filepath.Join(a.config.Data, "agent.db"), err)
	}
	a.self = identity.IDOf(a.key.Public().(ed25519.PublicKey))
	a.clock = identity.NewClock(a.config.Built, d.LastSeen.Time())
	a.instance = newInstance()
	rows, err := state.Meshes(a.db)
	if err != nil {
		return err
	}
	for name, row := range rows {
		m, err := newMesh(a, name, row)
		if err != nil {
			return fmt.Errorf("mesh %s: %v", name, err)
		}
		a.meshes[name] = m
	}
	return nil
}

// Close releases what New opened. It is not called after Run.
func (a *Agent) Close() error {
	for _, m := range a.meshes {
		m.discard()
	}
	return a.db.Close()
}

// ID returns the endpoint ID of this device: the same in every mesh.
func (a *Agent) ID() identity.ID { return a.self }

// Run serves the local API and keeps the meshes connected until ctx ends. When it returns,
// everything it started has ended and the database is closed.
func (a *Agent) Run(ctx context.Context) error {
	listener, token, err := api.Listen(a.config.Data)
	if err != nil {
		return errors.Join(fmt.Errorf("local API: %w", err), a.Close())
	}
	metrics, err := loopback.ListenMetrics(a.config.Metrics)
	if err != nil {
		return errors.Join(err, listener.Close(), a.Close())
	}
	defer a.db.Close()
	defer context.AfterFunc(ctx, func() { a.stop(context.Cause(ctx)) })()
	a.mu.Lock()
	for _, m := range a.meshes {
		a.startLocked(m)
	}
	a.mu.Unlock()
	a.log.Info("agent is running", "endpoint", a.self, "data", a.config.Data, "api", api.Location(a.config.Data))
	a.wg.Go(a.keepTime)
	if metrics != nil {
		a.wg.Go(func() { a.serveMetrics(metrics) })
	}
	err = local.Serve(a.life, listener, token, a.routes(), a.log)
	a.stop(err)
	a.wg.Wait()
	return err
}

// keepTime keeps, at most daily, a time that is past, as the floor of the next start: a router
// without a clock boots in 1970.
func (a *Agent) keepTime() {
	for wait := 10 * time.Minute; ; wait = 24 * time.Hour {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-a.life.Done():
			timer.Stop()
			return
		}
		if err := state.TouchDevice(a.db, a.floor()); err != nil {
			a.log.Warn("cannot save the time", "err", err)
		}
	}
}

// floor is the latest floor that a mesh gives; the zero time if none does.
func (a *Agent) floor() (latest time.Time) {
	for _, m := range a.all() {
		if t, ok := m.verifier.Floor(); ok && t.After(latest) {
			latest = t
		}
	}
	return latest
}

func (a *Agent) startLocked(m *mesh) {
	a.wg.Go(func() { m.run(a.life) })
}

// mesh returns a joined mesh by name.
func (a *Agent) mesh(name string) (*mesh, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := a.meshes[name]; m != nil {
		return m, nil
	}
	return nil, answer.Errorf(answer.NotFound, "this agent has not joined a mesh named %q", name)
}

// all returns the joined meshes, by name.
func (a *Agent) all() []*mesh {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*mesh
	for _, m := range a.meshes {
		out = append(out, m)
	}
	slices.SortFunc(out, func(x, y *mesh) int { return strings.Compare(x.name, y.name) })
	return out
}

// reserve keeps two joins or leaves of one name apart.
func (a *Agent) reserve(name string) (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[name] {
		return nil, answer.Errorf(answer.Conflict, "mesh %q is being joined or left at this moment", name)
	}
	a.busy[name] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, name)
	}, nil
}

// Join joins a mesh: see member.go. It returns when the hub knows this endpoint, and changes
// nothing when it fails. An endpoint that the mesh does not let in any longer can join again, as can
// one of root with a newer root permit; it keeps what its apps have.
func (a *Agent) Join(ctx context.Context, name, endpoint string, permit []byte) error {
	_, err := a.join(ctx, name, api.Join{Name: endpoint, Permit: permit})
	return err
}

// join does what Join does, and returns the endpoint whose place this one has taken; "" if none.
func (a *Agent) join(ctx context.Context, name string, in api.Join) (replaced identity.ID, err error) {
	release, err := a.reserve(name)
	if err != nil {
		return "", err
	}
	defer release()
	row, err := a.admit(ctx, name, in)
	if err != nil {
		return "", err
	}
	old, _ := a.mesh(name)
	if old != nil {
		if row, err = old.inherit(row); err != nil {
			return "", err
		}
	}
	hub, err := a.registration(name, row)
	if err != nil {
		return "", err
	}
	if replaced, err = a.introduce(ctx, hub, row, in.Replace); err != nil {
		return "", err
	}
	if old == nil {
		if err := state.SaveMesh(a.db, name, row); err != nil {
			return "", errors.Join(err, hub.Withdraw(ctx))
		}
	} else {
		if err := old.Replace(row); err != nil {
			return "", err
		}
		old.stop()
	}
	return replaced, a.begin(name, row)
}

// begin runs the mesh of a row that is on disk.
func (a *Agent) begin(name string, row authority.Row) error {
	// Not earlier: apps read what they keep when they are made, and those of the old mesh may have
	// written until now.
	m, err := newMesh(a, name, row)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life.Err() != nil {
		m.discard()
		return context.Cause(a.life)
	}
	a.meshes[name] = m
	m.audit.Add(m.act("join"))
	a.startLocked(m)
	a.log.Info("joined", "mesh", name, "as", row.Name)
	return nil
}

// Leave leaves a mesh, here and, if it can be reached, in the hub's directory.
func (a *Agent) Leave(ctx context.Context, name string) error {
	release, err := a.reserve(name)
	if err != nil {
		return err
	}
	defer release()
	m, err := a.mesh(name)
	if err != nil {
		return err
	}
	if err := m.Forget(); err != nil {
		return err
	}
	a.mu.Lock()
	delete(a.meshes, name)
	a.mu.Unlock()
	m.audit.Add(m.act("leave")) // for where the log goes: what is in memory ends with the mesh
	m.stop()                    // first, or it would register again
	if err := os.RemoveAll(apps.Dir(a.config.Data, name, "")); err != nil {
		a.log.Warn("files of apps stay", "mesh", name, "err", err)
	}
	if err := m.control.Withdraw(ctx); err != nil {
		a.log.Warn("cannot tell the hub that this endpoint leaves", "mesh", name, "err", err)
	}
	a.log.Info("left", "mesh", name)
	return nil
}

// Joined reports whether a mesh of that name was joined.
func (a *Agent) Joined(name string) bool {
	m, _ := a.mesh(name)
	return m != nil
}
