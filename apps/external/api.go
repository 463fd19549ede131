package external

import (
	"maps"
	"net/http"
	"slices"

	"ztm/apps/external/install"
	"ztm/apps/external/manifest"
	"ztm/apps/external/run"
	"ztm/tunnel/answer"
)

// maxBody is the longest body of a request, in bytes.
const maxBody = 64 << 10

// Shown is an app as the API describes it.
type Shown struct {
	install.App
	Trial  bool       `json:"trial,omitempty"` // it is tried out by `ztm app run`, and not installed
	Status run.Status `json:"status"`
	// BuiltIn says that it is one of the binary: only the name, the version and the state mean something.
	BuiltIn bool `json:"builtIn,omitempty"`
}

// builtin are the apps that a binary may have itself.
var builtin = []string{"cloud", "file", "kube", "proxy", "script", "terminal", "tunnel"}

// builtins lists the apps that this endpoint has without an installation.
func (a *App) builtins(*http.Request, string) (any, error) {
	return slices.DeleteFunc(slices.Clone(builtin), func(name string) bool { return a.host.API(name) == nil }), nil
}

// routes is the API:
//
//	GET    /builtin                             names of the apps of the binary
//	GET    /apps                                []Shown
//	GET    /apps/P/N                            Shown
//	PATCH  /apps/P/N                            install.Change -> Shown
//	DELETE /apps/P/N[?data=1]                   what it wrote goes, too
//	POST   /apps/P/N/start, stop, restart       Shown
//	POST   /apps/P/N/rollback                   Shown
//	POST   /open                                Opening -> Opened
func (a *App) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request, string) (any, error){
		"GET /apps":                 func(*http.Request, string) (any, error) { return a.list() },
		"GET /apps/{p}/{n}":         func(_ *http.Request, id string) (any, error) { return a.describe(id) },
		"PATCH /apps/{p}/{n}":       a.patch,
		"DELETE /apps/{p}/{n}":      a.erase,
		"POST /apps/{p}/{n}/{verb}": a.command,
		"POST /open":                a.open,
		"GET /builtin":              a.builtins,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r, r.PathValue("p")+"/"+r.PathValue("n"))
			answer.Reply(w, a.host.Log, v, err)
		})
	}
	return mux
}

// list returns all apps that are installed or tried out.
func (a *App) list() ([]Shown, error) {
	list, err := a.store.List()
	if err != nil {
		return nil, err
	}
	all := []Shown{}
	for _, one := range list {
		all = append(all, Shown{App: one, Status: a.status(one.Manifest.ID())})
	}
	a.mu.Lock()
	trials := maps.Clone(a.trials)
	a.mu.Unlock() // a runner that starts asks for its app
	for _, one := range trials {
		all = append(all, a.tried(one))
	}
	return all, nil
}

// tried describes an app that is tried out.
func (a *App) tried(one manifest.Installed) Shown {
	return Shown{App: install.App{Installed: one, Granted: one.Manifest.Rights}, Trial: true, Status: a.status(one.Manifest.ID())}
}

// trial returns an app if it is tried out at this moment.
func (a *App) trial(id string) (manifest.Installed, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one, ok := a.trials[id]
	return one, ok
}

// describe describes what runs under a name: what is tried out takes the place of what is installed.
func (a *App) describe(id string) (Shown, error) {
	if one, ok := a.trial(id); ok {
		return a.tried(one), nil
	}
	return a.show(id)
}

// show describes an app that is installed.
func (a *App) show(id string) (Shown, error) {
	one, err := a.store.Describe(id)
	return Shown{App: one, Status: a.status(id)}, err
}

// status returns what the program of an app does.
func (a *App) status(id string) run.Status {
	a.mu.Lock()
	r := a.runners[id]
	a.mu.Unlock()
	if r == nil {
		return run.Status{State: run.Stopped}
	}
	return r.Status()
}

func (a *App) patch(r *http.Request, id string) (any, error) {
	var c install.Change
	if err := answer.Decode(r, maxBody, &c); err != nil {
		return nil, err
	}
	if _, err := a.store.Change(id, c); err != nil {
		return nil, err
	}
	return a.show(id)
}

func (a *App) erase(r *http.Request, id string) (any, error) {
	return nil, a.store.Erase(id, r.URL.Query().Get("data") != "")
}

// command does what a person wants of an app.
func (a *App) command(r *http.Request, id string) (any, error) {
	one, err := a.store.Get(id)
	if err != nil {
		return nil, err
	}
	runner, err := a.runner(one.Manifest.ID())
	if err != nil {
		return nil, err
	}
	switch verb := r.PathValue("verb"); verb {
	case "start":
		err = runner.Start(r.Context())
	case "stop":
		runner.Stop("its owner stopped it")
	case "restart":
		runner.Stop("its owner starts it again")
		err = runner.Start(r.Context())
	case "rollback":
		_, err = a.store.Rollback(id)
	default:
		err = answer.Errorf(answer.NotFound, "an app has no %.40q", verb)
	}
	if err != nil {
		return nil, err
	}
	return a.show(id)
}
