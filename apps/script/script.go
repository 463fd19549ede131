// Package script runs a local script on other endpoints, as if it ran here: on one, or on many at
// the same time.
//
//	ztm script FILE --ep EP
//	  command.go -> fleet.go (which endpoints, how many at once) -> runner.go -> process.Drive
//	      -> flow "script/run", sealed: start, the script, stdin, signals ->
//	  serve.go (who may) -> interpreter.go (what runs it) -> give_*.go (how it gets it) -> process.Session
//
// The endpoint keeps no copy of the script. On Linux the interpreter reads it from a file in memory
// that it inherits as descriptor 3, so that stdin is the caller's. On other systems, and for a
// script that uses its own name, it reads a file in a private directory, which is removed at the
// end, or at the next start of the agent.
//
// JavaScript is run by an engine of our own (engine.go): another process of this binary, so that a
// script cannot harm the agent and runs as the account that it should. Builds with the tags
// ztm_router or ztm_omit_js have none.
//
// The endpoint's own user and the users that its configuration names may run scripts. This is
// decided from the peer's certificate, before anything is read from the flow or started.
package script

import (
	"context"
	"net/http"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/apps/settings"
)

const name = "script"

// maxSource is the longest script, in bytes. It is in memory as long as it runs.
const maxSource = 8 << 20

// App is the script app of one mesh.
type App struct {
	host     apps.Host
	settings settings.Value[process.Rules]
	register *process.Register
}

var _ apps.App = (*App)(nil)

// New makes the app.
func New(h apps.Host) apps.App {
	return &App{host: h, settings: settings.Value[process.Rules]{State: h.State},
		register: process.NewRegister(name, h)}
}

// Name implements [apps.App].
func (a *App) Name() string { return name }

// Run implements [apps.App]. At the end of ctx all scripts end.
func (a *App) Run(ctx context.Context) error {
	sweep()
	a.register.Wait(ctx)
	return nil
}

// Rule implements [apps.Ruled].
func (a *App) Rule(string) ([]string, error) {
	r, err := a.settings.Get()
	return r.Users, err
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge].
func (a *App) Judge(func(apps.Peer, string) bool) {
	if r, err := a.settings.Get(); err == nil {
		a.register.Enforce(r)
	}
}

// Left implements [apps.App].
func (a *App) Left(gone func(apps.Peer) bool) { a.register.End("the user is no longer a member", gone) }

// API implements [apps.App]: GET and PATCH /config, a [process.Rules] and a [process.RulesChange].
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/config", settings.API(&a.settings, a.host.Log, (*process.Rules).Apply, func(_, r process.Rules) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() { a.register.Enforce(r) }}, nil
	}))
	return mux
}
