// Package terminal opens a shell on another endpoint, in this window, or runs one command there as
// if it ran here.
//
//	ztm terminal open EP                               the shell of EP
//	  command.go -> open.go (raw mode, size, escape) -> process.Drive
//	      -> flow "terminal/shell", sealed ->
//	  serve.go (who may, as whom, what) -> process.Register -> process.Session -> a shell on a terminal of its own
//
// Paths of flows: "shell" starts a program, "attach" returns to one that was kept, both speaking
// the frames of package process; "sessions" answers with a JSON list of what the peer may return
// to, "end" ends one of these.
//
// The endpoint's own user and the users that its configuration names may open terminals. This is
// decided from the peer's certificate, before anything is read from the flow or started. A guest
// has all the rights of the account that the shell runs as, which --run-as sets. There is no
// forwarding of ports or files, no entry in utmp, and no restriction to one command.
package terminal

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
)

const name = "terminal"

// App is the terminal app of one mesh.
type App struct {
	host     apps.Host
	settings settings.Value[Config]
	register *process.Register
}

var _ apps.App = (*App)(nil)

// New makes the app.
func New(h apps.Host) apps.App {
	return &App{host: h, settings: settings.Value[Config]{State: h.State}, register: process.NewRegister(name, h)}
}

// Name implements [apps.App].
func (a *App) Name() string { return name }

// Run implements [apps.App]. At the end of ctx all sessions end, those that are kept too.
func (a *App) Run(ctx context.Context) error {
	a.register.Wait(ctx)
	return nil
}

// Rule implements [apps.Ruled].
func (a *App) Rule(string) ([]string, error) {
	c, err := a.settings.Get()
	return c.Users, err
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge]. A session that is kept ends with what its program was begun by.
func (a *App) Judge(lets func(apps.Peer, string) bool) {
	if c, err := a.settings.Get(); err == nil {
		a.register.Enforce(c.Rules)
	}
	a.register.End("the policy of the mesh does not give it any longer", func(p apps.Peer) bool { return !lets(p, pathShell) })
}

// Left implements [apps.App].
func (a *App) Left(gone func(apps.Peer) bool) { a.register.End("the user is no longer a member", gone) }

// API implements [apps.App]: GET and PATCH /config, a [Config] and a [Change].
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/config", settings.API(&a.settings, a.host.Log, (*Config).apply, func(_, c Config) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() { a.register.Enforce(c.Rules) }}, nil
	}))
	return mux
}

// Config is the configuration of terminals on an endpoint. The zero value is the login shell, for
// the owner alone.
type Config struct {
	process.Rules
	Shell       apps.Bytes    `json:"shell,omitempty"`       // a program with arguments, separated by spaces; "" is the login shell
	Record      apps.Bytes    `json:"record,omitempty"`      // the directory that sessions are recorded in; "" records none
	IdleTimeout apps.Duration `json:"idleTimeout,omitempty"` // 0 is none
}

// Change changes a [Config]; nil fields stay as they are.
type Change struct {
	process.RulesChange
	Shell       *apps.Bytes    `json:"shell,omitempty"`
	Record      *apps.Bytes    `json:"record,omitempty"`
	IdleTimeout *apps.Duration `json:"idleTimeout,omitempty"`
}

// apply makes a change, if every part of it is possible on this endpoint.
func (c *Config) apply(change Change) error {
	if err := c.Rules.Apply(change.RulesChange); err != nil {
		return err
	}
	if change.Shell != nil {
		c.Shell = apps.Bytes(strings.Join(strings.Fields(string(*change.Shell)), " "))
	}
	if change.Shell != nil || change.RunAs != nil {
		account, err := process.Lookup(string(c.RunAs))
		if err != nil {
			return err
		}
		if _, _, err := c.shell(account, account.Env()); err != nil {
			return err
		}
	}
	if change.Record != nil {
		if c.Record = *change.Record; c.Record != "" {
			if !filepath.IsAbs(string(c.Record)) {
				return answer.Errorf(answer.BadRequest, "the directory for recordings is not absolute: %q", c.Record)
			}
			if err := prepare(string(c.Record)); err != nil {
				return err
			}
		}
	}
	if change.IdleTimeout != nil {
		c.IdleTimeout = *change.IdleTimeout
	}
	return nil
}

// shell returns the program and the arguments of the shell for an account.
func (c Config) shell(a *process.Account, env []string) (path string, args []string, err error) {
	words := strings.Fields(string(c.Shell))
	if len(words) == 0 {
		words = []string{a.Shell}
	}
	path, err = a.Find(words[0], env)
	if err != nil {
		return "", nil, answer.Errorf(answer.NotFound, "there is no shell %q: %v", words[0], process.Cause(err))
	}
	return path, slices.Concat([]string{loginName(path)}, words[1:]), nil
}

func (c Config) idle() time.Duration { return time.Duration(c.IdleTimeout) }
