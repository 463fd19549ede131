package proxy

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"ztm/apps"
	"ztm/apps/proxy/clients"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// The API of the app, for this agent's own user:
//
//	GET    /config               View
//	PATCH  /config               Change -> View
//	GET    /rules                []Rule
//	POST   /rules?at=N           Rule: inserted before rule N, or added at the end
//	PUT    /rules/N              Rule: replaces what is given of rule N
//	DELETE /rules/N
//	PUT    /credentials/USER     {"password": ...}
//	DELETE /credentials/USER
//	GET    /status               Status
//	GET    /where?target=HOST    Where: HOST:PORT, or HOST for any port

const maxRequest = 1 << 20 // bytes of a request's body

// View is the configuration as it is shown: without passwords, with names.
type View struct {
	Endpoint    string      `json:"endpoint"`
	Listens     []string    `json:"listens"`
	Targets     []string    `json:"targets"`
	Exclusions  []string    `json:"exclusions"`
	Routes      []RouteView `json:"routes"`
	Trust       []string    `json:"trust"`
	Default     string      `json:"default"`
	DNS         string      `json:"dns"`
	Credentials []string    `json:"credentials"` // users
	Warnings    []string    `json:"warnings"`
}

// RouteView is a [Route] with the name of its exit.
type RouteView struct {
	Pattern string      `json:"pattern"`
	Exit    identity.ID `json:"exit,omitempty"` // "" is direct
	Name    string      `json:"name,omitempty"`
}

// Change is a change of the configuration: all of it is made, or nothing.
type Change struct {
	SetListens       *[]string         `json:"setListens,omitempty"` // an empty list closes all
	AddTargets       []string          `json:"addTargets,omitempty"`
	RemoveTargets    []string          `json:"removeTargets,omitempty"`
	AddExclusions    []string          `json:"addExclusions,omitempty"`
	RemoveExclusions []string          `json:"removeExclusions,omitempty"`
	Via              map[string]string `json:"via,omitempty"`    // pattern to the name or ID of an endpoint
	Direct           []string          `json:"direct,omitempty"` // patterns
	RemoveRoutes     []string          `json:"removeRoutes,omitempty"`
	Trust            []string          `json:"trust,omitempty"`
	Distrust         []string          `json:"distrust,omitempty"`
	Default          *string           `json:"default,omitempty"`
	DNS              *string           `json:"dns,omitempty"` // "" is off
}

// Status is what the proxy is doing.
type Status struct {
	Listeners []ListenerStatus `json:"listeners"`
	Clients   int              `json:"active"`      // connections of clients now
	Total     int64            `json:"connections"` // of clients since the start
	Flows     int              `json:"exitActive"`  // flows of peers that leave the mesh here now
	Exits     []ExitStatus     `json:"exits"`
}

// ExitStatus is an exit of the mesh as this endpoint sees it.
type ExitStatus struct {
	ID         identity.ID `json:"id"`
	Name       string      `json:"name"`
	User       string      `json:"user"`
	Trusted    bool        `json:"trusted"`       // chosen without being named by a route
	RTT        float64     `json:"rtt,omitempty"` // milliseconds
	Targets    []string    `json:"targets"`
	Exclusions []string    `json:"exclusions,omitempty"`
	Search     []string    `json:"search,omitempty"`
	Error      string      `json:"error,omitempty"`
}

// API returns the handler of the requests above.
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	change := func(pattern string, f func(http.ResponseWriter, *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(w, r)
			answer.Reply(w, a.log, v, err)
		})
	}
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		change(pattern, func(_ http.ResponseWriter, r *http.Request) (any, error) { return f(r) })
	}
	handle("GET /config", func(r *http.Request) (any, error) { return a.view(r.Context()) })
	change("PATCH /config", a.patchConfig)
	handle("GET /rules", func(*http.Request) (any, error) { return a.rules() })
	change("POST /rules", a.addRule)
	change("PUT /rules/{index}", a.setRule)
	change("DELETE /rules/{index}", a.deleteRule)
	handle("PUT /credentials/{user}", a.setCredential)
	handle("DELETE /credentials/{user}", a.deleteCredential)
	handle("GET /status", func(r *http.Request) (any, error) { return a.status(r.Context()) })
	handle("GET /where", a.where)
	handle("/", func(r *http.Request) (any, error) {
		return nil, answer.Errorf(answer.NotFound, "the proxy has no %s %s", r.Method, limit.Clip(r.URL.Path))
	})
	return mux
}

func (a *App) view(ctx context.Context) (View, error) {
	c, err := a.config.Get()
	if err != nil {
		return View{}, err
	}
	all, err := a.host.Mesh.Endpoints(ctx, apps.Filter{})
	if err != nil {
		a.log.Debug("no directory: exits are shown by ID", "err", err)
	}
	users := a.credentials.Names()
	v := View{
		Endpoint: a.host.Mesh.Self().Name, Listens: list(c.Listens), Targets: list(c.Targets), Exclusions: list(c.Exclusions),
		Routes: []RouteView{}, Trust: list(c.Trust), Default: c.Default, DNS: c.DNS,
		Credentials: list(users), Warnings: list(c.warnings(len(users))),
	}
	if v.Default == "" {
		v.Default = refuse
	}
	for _, r := range c.Routes {
		view := RouteView{Pattern: r.Pattern, Exit: r.Exit}
		if r.Exit != "" {
			view.Name = endpointName(all, r.Exit)
		}
		v.Routes = append(v.Routes, view)
	}
	return v, nil
}

// list makes a list that is [] in JSON, not null, if it is empty.
func list(s []string) []string { return append([]string{}, s...) }

func (a *App) patchConfig(w http.ResponseWriter, r *http.Request) (any, error) {
	var ch Change
	if err := answer.Decode(r, maxRequest, &ch); err != nil {
		return nil, err
	}
	exits := map[string]identity.ID{}
	for pattern, name := range ch.Via {
		id, err := a.endpoint(r.Context(), name)
		if err != nil {
			return nil, err
		}
		exits[pattern] = id
	}
	if err := a.change(w, func(c *Config) error { return ch.apply(c, exits) }); err != nil {
		return nil, err
	}
	return a.view(r.Context())
}

// endpoint finds an endpoint by ID or by unique name; "." is this one.
func (a *App) endpoint(ctx context.Context, name string) (identity.ID, error) {
	if name == "." {
		return a.host.Mesh.Self().ID, nil
	}
	all, err := a.host.Mesh.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return "", err
	}
	var found []identity.ID
	for _, ep := range all {
		if string(ep.ID) == name {
			return ep.ID, nil
		}
		if ep.Name == name {
			found = append(found, ep.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", answer.Errorf(answer.NotFound, "endpoint %q not found", limit.Clip(name))
	case 1:
		return found[0], nil
	}
	return "", answer.Errorf(answer.Conflict, "endpoint name %q is ambiguous: use its ID", limit.Clip(name))
}

func (a *App) rules() ([]policy.Rule, error) {
	c, err := a.config.Get()
	return append([]policy.Rule{}, c.Rules...), err
}

func (a *App) addRule(w http.ResponseWriter, r *http.Request) (any, error) {
	var rule policy.Rule
	if err := answer.Decode(r, maxRequest, &rule); err != nil {
		return nil, err
	}
	if err := apps.CheckWho(rule.Users); err != nil {
		return nil, err
	}
	at := r.URL.Query().Get("at")
	return a.editRules(w, func(all []policy.Rule) ([]policy.Rule, error) {
		if at == "" {
			return append(all, rule), nil
		}
		i, err := index(at, len(all)+1)
		if err != nil {
			return nil, err
		}
		return slices.Insert(all, i, rule), nil
	})
}

func (a *App) setRule(w http.ResponseWriter, r *http.Request) (any, error) {
	var set policy.Rule
	if err := answer.Decode(r, maxRequest, &set); err != nil {
		return nil, err
	}
	if err := apps.CheckWho(set.Users); err != nil {
		return nil, err
	}
	return a.editRules(w, func(all []policy.Rule) ([]policy.Rule, error) {
		i, err := index(r.PathValue("index"), len(all))
		if err != nil {
			return nil, err
		}
		if len(set.Users) > 0 {
			all[i].Users = set.Users
		}
		if len(set.Targets) > 0 {
			all[i].Targets = set.Targets
		}
		if set.Action != "" {
			all[i].Action = set.Action
		}
		return all, nil
	})
}

func (a *App) deleteRule(w http.ResponseWriter, r *http.Request) (any, error) {
	return a.editRules(w, func(all []policy.Rule) ([]policy.Rule, error) {
		i, err := index(r.PathValue("index"), len(all))
		if err != nil {
			return nil, err
		}
		return slices.Delete(all, i, i+1), nil
	})
}

func (a *App) editRules(w http.ResponseWriter, f func([]policy.Rule) ([]policy.Rule, error)) (any, error) {
	err := a.change(w, func(c *Config) (err error) {
		c.Rules, err = f(c.Rules)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a.rules()
}

func index(s string, n int) (int, error) {
	i, err := strconv.Atoi(s)
	if err != nil || i < 0 || i >= n {
		return 0, answer.Errorf(answer.NotFound, "there is no rule #%s", limit.Clip(s))
	}
	return i, nil
}

func (a *App) setCredential(r *http.Request) (any, error) {
	var body struct {
		Password string `json:"password"`
	}
	if err := answer.Decode(r, maxRequest, &body); err != nil {
		return nil, err
	}
	user := r.PathValue("user")
	if err := clients.CheckCredential(user, body.Password); err != nil {
		return nil, badRequest(err)
	}
	c, err := clients.NewCredential(body.Password)
	if err != nil {
		return nil, err
	}
	err = a.changeCredentials(func(all map[string]clients.Credential) error {
		if len(all) >= maxListed {
			return answer.Errorf(answer.Limit, "more than %d credentials", maxListed)
		}
		all[user] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.view(r.Context())
}

func (a *App) deleteCredential(r *http.Request) (any, error) {
	user := r.PathValue("user")
	err := a.changeCredentials(func(all map[string]clients.Credential) error {
		if _, ok := all[user]; !ok {
			return answer.Errorf(answer.NotFound, "there is no credential of %q", limit.Clip(user))
		}
		delete(all, user)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.view(r.Context())
}

func (a *App) status(ctx context.Context) (Status, error) {
	s := a.settings.Load()
	st := Status{
		Listeners: a.listeners.status(), Clients: a.entrance.clients.Count(), Total: a.entrance.clients.Total(), Flows: a.exit.Running(),
		Exits: []ExitStatus{},
	}
	all, err := a.exits.All(ctx)
	if err != nil {
		return Status{}, err
	}
	for _, c := range all {
		e := ExitStatus{ID: c.ID, Name: c.Name, User: c.User, Trusted: s.routing.Trusted(c.User), RTT: apps.Milliseconds(c.RTT), Targets: []string{}}
		if c.Serves != nil {
			e.Targets, e.Exclusions, e.Search = reach.Texts(c.Serves.Targets), reach.Texts(c.Serves.Exclusions), c.Serves.Search
		}
		if c.Err != nil {
			e.Error = c.Err.Error()
		}
		st.Exits = append(st.Exits, e)
	}
	return st, nil
}
