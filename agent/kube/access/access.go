// Package access is the app "kube": the API server of a cluster through the mesh, for people, as
// they themselves. The way of a request:
//
//	kubectl -> loopback, TLS, token (login.go) ~~~ flow ~~~ exit: who is the peer -> impersonate (exit.go) -> API server
//
// The exit never acts on its own account for anybody. What a request may do is decided by the
// cluster's own rules for the user "ztm:NAME", and NAME is that of the verified peer. Each header of
// a request that goes on is on a list; what cannot be told as somebody's is not sent at all.
package access

import (
	"context"
	"net/http"
	"reflect"
	"sync"

	"ztm/agent/kube/cluster"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// Name is the app's name, the first segment of its paths.
const Name = "kube"

// API is the path of flows that carry requests to the API server, and how an endpoint offers them. An
// endpoint whose cluster has a name offers api/NAME, too: several may lead to one cluster.
const API = "api"

// App is the app of one endpoint in one mesh.
type App struct {
	host   apps.Host // static
	logins *logins   // static

	mu     sync.Mutex
	server *exit  // nil: this endpoint is no way to a cluster; guarded by mu
	said   Server // what server was made of; guarded by mu
}

// New makes the app with the logins that were saved.
func New(h apps.Host) apps.App { return &App{host: h, logins: newLogins(h)} }

// Name returns "kube".
func (a *App) Name() string { return Name }

// Run keeps the listeners of logins open until ctx ends.
func (a *App) Run(ctx context.Context) error {
	a.logins.run(ctx)
	return nil
}

// Left does nothing: all that runs for a peer is a flow.
func (a *App) Left(func(apps.Peer) bool) {}

// Judge ends what runs with the rights of a group that its user is not in any longer.
func (a *App) Judge(func(apps.Peer, string) bool) {
	a.mu.Lock()
	x := a.server
	a.mu.Unlock()
	if x != nil {
		x.judge()
	}
}

// Rule implements [apps.Ruled]. Everybody reaches an API server that this endpoint leads to, and the
// cluster's own rules say what each may do there. Without one there is nothing to reach.
func (a *App) Rule(string) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server == nil {
		return nil, nil
	}
	return []string{policy.Anybody}, nil
}

// Serve carries the requests of a peer to the API server.
func (a *App) Serve(ctx context.Context, f apps.Flow) {
	a.mu.Lock()
	x := a.server
	a.mu.Unlock()
	switch {
	case f.Path() != API:
		f.Refuse(answer.Errorf(answer.NotFound, "the app kube has no %s", f.Path()))
	case x == nil:
		f.Refuse(answer.Errorf(answer.NotFound, "endpoint %s is no way to a cluster", a.host.Mesh.Self().Name))
	default:
		x.serve(ctx, f)
	}
}

// Server says where the API server is that this endpoint is the way to: PUT /server. It is kept in
// memory: whoever said it says it again after a restart.
type Server struct {
	URL       string `json:"url"`       // https://host:port; "" takes it back
	TokenFile string `json:"tokenFile"` // of the account that may impersonate
	CA        []byte `json:"ca"`        // PEM

	// Cluster is the name that all endpoints which lead to this cluster share; "" is none.
	Cluster string `json:"cluster,omitempty"`

	// Groups of the mesh's policy that a user may be in at the cluster, as "ztm:GROUP".
	Groups []string `json:"groups,omitempty"`
}

func (a *App) setServer(s Server) error {
	a.mu.Lock()
	same := reflect.DeepEqual(a.said, s)
	a.mu.Unlock()
	if same {
		return nil
	}
	if s.Cluster != "" {
		if err := identity.CheckName(s.Cluster); err != nil {
			return answer.Errorf(answer.BadRequest, "the name of the cluster: %v", err)
		}
	}
	for _, g := range s.Groups {
		if !fits(g) {
			return answer.Errorf(answer.BadRequest, "%.80q cannot be the name of a group in the cluster", g)
		}
	}
	var x *exit
	if s.URL != "" {
		client, err := cluster.New(cluster.Config{Server: s.URL, CA: s.CA, Token: cluster.TokenFile(s.TokenFile), Others: true})
		if err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
		x = newExit(client, s.Groups, a.host)
	}
	a.mu.Lock()
	old := a.server
	a.server, a.said = x, s
	a.mu.Unlock()
	if old != nil {
		old.client.Close()
	}
	a.host.Offer(s.offers())
	return nil
}

// offers are the names under which the endpoint is found.
func (s *Server) offers() []string {
	switch {
	case s.URL == "":
		return nil
	case s.Cluster == "":
		return []string{API}
	}
	return []string{API, API + "/" + s.Cluster}
}

// maxBody bounds what the API reads of a request, in bytes.
const maxBody = 1 << 20

// API manages the app:
//
//	PUT     /server            a [Server]
//	GET     /logins            a list of [Login]
//	POST    /logins/NAME       makes the [Login] of that name that the body says, or returns the one there is
//	DELETE  /logins/NAME
//	POST    /logins/NAME/token a [Token]
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	log := a.host.Log
	mux.HandleFunc("PUT /server", func(w http.ResponseWriter, r *http.Request) {
		var in Server
		err := answer.Decode(r, maxBody, &in)
		if err == nil {
			err = a.setServer(in)
		}
		answer.Reply(w, log, nil, err)
	})
	mux.HandleFunc("GET /logins", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, log, a.logins.list(), nil) })
	mux.HandleFunc("POST /logins/{name}", func(w http.ResponseWriter, r *http.Request) {
		var in Login
		var out Login
		err := answer.Decode(r, maxBody, &in)
		if err == nil {
			out, err = a.logins.add(Login{Name: r.PathValue("name"), Cluster: in.Cluster, User: in.User})
		}
		answer.Reply(w, log, out, err)
	})
	mux.HandleFunc("DELETE /logins/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, log, nil, a.logins.remove(r.PathValue("name")))
	})
	mux.HandleFunc("POST /logins/{name}/token", func(w http.ResponseWriter, r *http.Request) {
		out, err := a.logins.token(r.PathValue("name"))
		answer.Reply(w, log, out, err)
	})
	return mux
}
