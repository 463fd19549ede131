// Package external is the apps of others as one app of ours, called "app".
//
//	a peer's flow   app/stream/PROVIDER/NAME/... -> is it allowed? -> run.Runner -> the program
//	the owner's     app/install: signed bundle -> offer -> consent, files -> install.Store
//	the owner's API /apps/PROVIDER/NAME -> install.Store, run.Runner
//
// What an app is, where it lies and how it runs are rooms of their own; this one puts them together.
package external

import (
	"context"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/external/contract"
	"ztm/apps/external/door"
	"ztm/apps/external/install"
	"ztm/apps/external/manifest"
	"ztm/apps/external/run"
	"ztm/tunnel/answer"
)

// Name is the name of this app: the first segment of the paths of all apps of others.
const Name = "app"

// idle is how long a program runs that nobody uses.
const idle = 10 * time.Minute

// App is the apps of others in one mesh. Make it with [New].
type App struct {
	host  apps.Host
	store *install.Store
	group *run.Group

	in        door.In
	listeners listeners

	offering sync.Mutex // held while the mesh is told what is offered; taken before mu

	mu      sync.Mutex
	runners map[string]*run.Runner        // by "PROVIDER/NAME"; guarded by mu
	trials  map[string]manifest.Installed // of `ztm app run`; guarded by mu
	offers  map[string][]string           // what apps offer beside themselves; guarded by mu
	closed  bool                          // guarded by mu
}

var _ apps.App = (*App)(nil)

// New makes the app.
func New(h apps.Host) apps.App {
	a := &App{host: h, group: run.NewGroup(h.Mesh.Name()), runners: map[string]*run.Runner{}, trials: map[string]manifest.Installed{}, offers: map[string][]string{}}
	a.store = install.New(install.Config{State: h.State, Notary: h.Notary, Dir: h.Dir, OS: runtime.GOOS, Arch: runtime.GOARCH, Changed: a.changed})
	return a
}

// Name implements [apps.App].
func (a *App) Name() string { return Name }

// Run implements [apps.App]. All programs end with ctx.
func (a *App) Run(ctx context.Context) error {
	if err := a.store.Tidy(); err != nil {
		a.host.Log.Error("what interrupted installations left cannot be removed", "err", err)
	}
	run.Sweep()
	list, err := a.store.List()
	if err != nil {
		return err
	}
	for _, one := range list {
		a.autostart(one.Manifest.ID())
	}
	a.offer()
	<-ctx.Done()
	a.close()
	return nil
}

// close ends all programs.
func (a *App) close() {
	a.mu.Lock()
	a.closed = true
	runners := a.runners
	a.runners = map[string]*run.Runner{}
	a.mu.Unlock()
	a.listeners.close()
	a.in.Close()
	var all sync.WaitGroup
	for _, r := range runners {
		all.Go(r.Close)
	}
	all.Wait()
	a.group.Close()
}

// lookup returns an app that is installed, or tried out at this moment. Each request asks for it, so
// whether its files are here is looked for where the program is started.
func (a *App) lookup(id string) (manifest.Installed, error) {
	return a.find(id, a.store.Known)
}

// find is lookup; get is where an app that is installed comes from.
func (a *App) find(id string, get func(id string) (install.App, error)) (manifest.Installed, error) {
	if trial, ok := a.trial(id); ok {
		return trial, nil
	}
	one, err := get(id)
	switch {
	case err != nil:
		return manifest.Installed{}, err
	case one.Problem != "":
		return manifest.Installed{}, answer.Errorf(answer.Unavailable, "the app %s: %s", id, one.Problem)
	case one.Disabled:
		return manifest.Installed{}, answer.Errorf(answer.Unavailable, "the app %s is disabled", id)
	}
	return one.Installed, nil
}

// runner returns what runs an app. It is made when it is needed first.
func (a *App) runner(id string) (*run.Runner, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, answer.Errorf(answer.Unavailable, "the agent is ending")
	}
	r := a.runners[id]
	if r == nil {
		r = a.group.New(id, run.Config{Spec: func() (run.Spec, error) { return a.spec(id) }, API: a.out(id), Log: a.host.Log, Idle: idle})
		a.runners[id] = r
	}
	return r, nil
}

// out returns the door at which a program asks the agent.
func (a *App) out(id string) http.Handler {
	return door.Out(door.Config{ID: id, Mesh: a.host.Mesh, State: a.host.State, Log: a.host.Log, Cloud: cloud{a.host},
		Manifest: func() (manifest.Manifest, error) {
			one, err := a.lookup(id)
			return one.Manifest, err
		},
		Offer: func(names []string) {
			a.mu.Lock()
			a.offers[id] = names
			a.mu.Unlock()
			a.offer()
		}})
}

// offer tells the mesh which apps are here, and what they offer. That waits for the hub.
func (a *App) offer() {
	a.offering.Lock()
	defer a.offering.Unlock()
	list, err := a.list()
	if err != nil {
		a.host.Log.Error("it is not known what to offer", "err", err)
		return
	}
	var ids []string
	for _, one := range list {
		if id := one.Manifest.ID(); !one.Disabled && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	a.mu.Lock()
	more := maps.Clone(a.offers)
	a.mu.Unlock()
	a.host.Offer(offered(ids, more))
}

// What apps offer in the endpoint's record, which all of its apps share: one that does not fit is
// refused, and the endpoint is not in the mesh.
const (
	maxOffer        = 128 - len(Name+"/") // bytes of one name
	maxOffered      = 64                  // names
	maxOfferedBytes = 3 << 10
)

// offered lists what fits of the apps that are here, and after them of what they offer.
func offered(ids []string, more map[string][]string) (names []string) {
	left := maxOfferedBytes
	add := func(name string) {
		if len(name) <= min(maxOffer, left) && len(names) < maxOffered {
			names = append(names, name)
			left -= len(name)
		}
	}
	for _, id := range ids {
		add(id)
	}
	for _, id := range ids {
		for _, name := range more[id] {
			add(id + "/" + name)
		}
	}
	return names
}

// spec returns what an app is started from.
func (a *App) spec(id string) (run.Spec, error) {
	one, err := a.find(id, a.store.Get)
	return run.Spec{Manifest: one.Manifest, Dir: one.Dir, Data: a.store.DataDir(id), Unconfined: one.Unconfined}, err
}

// changed has an app run as it is installed now: another version, other rights, or not at all. Flows
// of users who may not use it any longer end.
func (a *App) changed(id string) {
	a.cut(func(of string) bool { return of == id })
	a.mu.Lock()
	r := a.runners[id]
	a.mu.Unlock()
	if r != nil {
		r.Renew("it was changed")
	}
	a.offer()
	a.autostart(id)
}

// cut ends the flows of those who may not use an app, of all apps for which of says so.
func (a *App) cut(of func(id string) bool) {
	a.host.Cut(func(p apps.Peer, path string) bool {
		_, id, _, ok := split(path)
		return ok && of(id) && a.may(p, id) != nil
	})
}

// Rule implements [apps.Ruled].
func (a *App) Rule(name string) ([]string, error) {
	_, id, _, ok := split(name)
	if !ok {
		return nil, answer.Errorf(answer.NotFound, "%.130q is not stream/PROVIDER/NAME, nor the same with datagram or http", name)
	}
	one, err := a.lookup(id)
	return one.Users, err
}

var _ apps.Listing = (*App)(nil)

// Rules implements [apps.Listing].
func (a *App) Rules() (map[string][]string, error) {
	list, err := a.list()
	out := map[string][]string{}
	for _, one := range list {
		for _, kind := range []string{"stream/", "datagram/", "http/"} {
			name := kind + one.Manifest.ID()
			out[name], out[name+"/*"] = one.Users, one.Users
		}
	}
	return out, err
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge].
func (a *App) Judge(func(apps.Peer, string) bool) { a.cut(func(string) bool { return true }) }

// autostart starts an app that runs whenever the agent does.
func (a *App) autostart(id string) {
	one, err := a.lookup(id)
	if err != nil || !one.Manifest.Rights.Autostart {
		return
	}
	r, err := a.runner(id)
	if err == nil {
		err = r.Start(context.Background())
	}
	if err != nil {
		a.host.Log.Warn("app was not started", "app", id, "err", err)
	}
}

// may says why a peer may not use an app.
func (a *App) may(p apps.Peer, id string) error {
	self := a.host.Mesh.Self()
	if p.User == self.User {
		return nil
	}
	one, err := a.lookup(id)
	if err == nil && a.host.Names(p, one.Users) {
		return nil
	}
	// Whether there is such an app is not for those who may not use it.
	return answer.Errorf(answer.Denied, "user %s may not use the app %s at endpoint %s; its owner can allow it: ztm app grant %s %s", p.User, id, self.Name, id, p.User)
}

// split reads the path of a flow: "stream/PROVIDER/NAME/REST".
func split(path string) (kind, id, rest string, ok bool) {
	part := strings.SplitN(path, "/", 4)
	if len(part) < 3 || part[0] != "stream" && part[0] != "datagram" && part[0] != "http" {
		return "", "", "", false
	}
	if len(part) == 4 {
		rest = part[3]
	}
	return part[0], part[1] + "/" + part[2], rest, manifest.CheckID(part[1]+"/"+part[2]) == nil
}

// Left implements [apps.App]. The mesh has ended their flows, and nothing else is kept for a peer.
func (a *App) Left(func(apps.Peer) bool) {}

// Serve implements [apps.App].
func (a *App) Serve(ctx context.Context, f apps.Flow) {
	self, path := a.host.Mesh.Self(), f.Path()
	if kind, id, rest, ok := split(path); ok {
		a.serveApp(ctx, f, kind, id, rest)
		return
	}
	switch own := f.Peer().User == self.User; {
	case path == "install" && own:
		a.serveInstall(f)
	case path == "sign" && own:
		a.serveSign(f)
	case path == "log" && own:
		a.serveLog(ctx, f)
	case path == "run" && f.Peer().ID == self.ID:
		a.serveRun(ctx, f)
	default:
		f.Refuse(answer.Errorf(answer.NotFound, "%s has no %.40q", Name, path))
	}
}

// serveApp gives a flow to the program that it is for.
func (a *App) serveApp(ctx context.Context, f apps.Flow, kind, id, rest string) {
	if err := a.may(f.Peer(), id); err != nil {
		f.Refuse(err)
		return
	}
	if _, err := a.lookup(id); err != nil {
		f.Refuse(err)
		return
	}
	r, err := a.runner(id)
	if err != nil {
		f.Refuse(err)
		return
	}
	a.in.Serve(ctx, f, door.Request{ID: id, Kind: kind, Path: rest, Caller: a.caller(f.Peer()), Dial: r.Dial})
}

// caller is a peer as a program learns of it.
func (a *App) caller(p apps.Peer) contract.Caller {
	c := contract.Caller{ID: p.ID, User: p.User, Source: contract.Peer}
	switch self := a.host.Mesh.Self(); {
	case p.ID == self.ID:
		c.Source = contract.Self
	case p.User == self.User:
		c.Source = contract.User
	}
	return c
}

// API implements [apps.App].
func (a *App) API() http.Handler { return a.routes() }
