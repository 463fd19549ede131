// Package file copies files between endpoints: to and from any path for the endpoint's own user, and
// for others below the paths that its configuration names, or into its inbox.
//
//	ztm file cp a.txt nas:/srv
//	  cli (which end is where) -> flow "file/write", sealed ->
//	  serve.go (who may, where) -> place.go -> apps/rooted -> apps/file/transfer
//
// Paths of flows: "list" answers with JSON lines; "read" sends what a path names, and "write" receives
// it, as package transfer does; "inbox" receives what a person consents to.
//
// The endpoint's own user has the rights of the account that the agent runs as, as in a terminal.
// Links in a path that the own user names are followed; below it, and everywhere for others, none is.
package file

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"ztm/apps"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
)

// Name is the first segment of the paths of this app, and its word on the command line.
const Name = "file"

// App is the file app of one mesh.
type App struct {
	host     apps.Host
	settings settings.Value[Config]
	refusals *limit.Log
	offers   offers
	claims   claims

	mu      sync.Mutex
	running map[*visit]struct{}
	stopped bool
	visits  sync.WaitGroup // no Add after stopped
}

var _ apps.App = (*App)(nil)

// New makes the app.
func New(h apps.Host) apps.App {
	return &App{host: h, settings: settings.Value[Config]{State: h.State, Check: (*Config).check}, refusals: limit.NewLog(h.Log), running: map[*visit]struct{}{}}
}

// Name implements [apps.App].
func (a *App) Name() string { return Name }

// Run implements [apps.App]. At the end of ctx all copies end.
func (a *App) Run(ctx context.Context) error {
	<-ctx.Done()
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.end(func(*visit) bool { return true })
	a.visits.Wait()
	return nil
}

// Left implements [apps.App].
func (a *App) Left(gone func(apps.Peer) bool) { a.end(func(v *visit) bool { return gone(v.peer) }) }

// API implements [apps.App]: GET and PATCH /config, a [Config] and a [Change], and the same at /allow, where a
// change of who may reach what is made: it has its own words in the audit log. GET /offers, a list of
// [Offer]; POST /offers/ID with a [Decision].
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	config := settings.API(&a.settings, a.host.Log, (*Config).apply, func(_, c Config) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() { a.enforce(c) }}, nil
	})
	mux.Handle("/config", config)
	mux.Handle("/allow", config)
	mux.HandleFunc("GET /offers", func(w http.ResponseWriter, _ *http.Request) { answer.JSON(w, a.offers.list()) })
	mux.HandleFunc("POST /offers/{id}", func(w http.ResponseWriter, r *http.Request) {
		var d Decision
		err := answer.Decode(r, 1<<10, &d)
		if err == nil {
			err = a.offers.decide(r.PathValue("id"), d.Accept)
		}
		answer.Reply(w, a.host.Log, nil, err)
	})
	return mux
}

// visit is one flow of a peer that is at work.
type visit struct {
	peer apps.Peer
	may  func(Config) error // whether the peer may still have what it does
	stop func()             // ends the flow
}

// Limits of what peers have going at the same time.
const (
	maxVisits      = 64
	maxGuestVisits = 8 // of one user other than the endpoint's own
)

// admit counts a flow in, or refuses it.
func (a *App) admit(v *visit) error {
	self := a.host.Mesh.Self()
	a.mu.Lock()
	defer a.mu.Unlock()
	same := 0
	for o := range a.running {
		if o.peer.User == v.peer.User {
			same++
		}
	}
	switch {
	case a.stopped:
		return answer.Errorf(answer.Unavailable, "%s is stopping on %s", Name, self.Name)
	case len(a.running) >= maxVisits, v.peer.User != self.User && same >= maxGuestVisits:
		return answer.Errorf(answer.Limit, "too many copies run on %s; try again later", self.Name)
	}
	a.running[v] = struct{}{}
	a.visits.Add(1)
	return nil
}

func (a *App) leave(v *visit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, v)
	a.visits.Done()
}

// end ends the flows for which the function says so.
func (a *App) end(match func(*visit) bool) {
	a.mu.Lock()
	var stops []func()
	for v := range a.running {
		if match(v) {
			stops = append(stops, v.stop)
		}
	}
	a.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// Rule implements [apps.Ruled]. A grant of the policy names no paths: whom the rule of any path names
// may read or write something.
func (a *App) Rule(name string) ([]string, error) {
	c, err := a.settings.Get()
	switch {
	case err != nil:
		return nil, err
	case name == "inbox":
		return c.Inbox.Users, nil
	case name != "read" && name != "write":
		return nil, answer.Errorf(answer.NotFound, "%s has no %q: read, write or inbox", Name, name)
	}
	var who []string
	for _, g := range c.Allow {
		if g.Write || name == "read" {
			who = append(who, g.Users...)
		}
	}
	slices.Sort(who)
	return slices.Compact(who), nil
}

var _ apps.Listing = (*App)(nil)

// Rules implements [apps.Listing].
func (a *App) Rules() (map[string][]string, error) {
	out := map[string][]string{}
	for _, name := range []string{"read", "write", "inbox"} {
		who, err := a.Rule(name)
		if err != nil {
			return nil, err
		}
		out[name] = who
	}
	return out, nil
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge].
func (a *App) Judge(func(apps.Peer, string) bool) {
	if c, err := a.settings.Get(); err == nil {
		a.enforce(c)
	}
}

// enforce ends what a configuration does not allow any longer.
func (a *App) enforce(c Config) { a.end(func(v *visit) bool { return v.may(c) != nil }) }
