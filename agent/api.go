package agent

import (
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/direct"
	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The local API: JSON over HTTP/1.1 on the socket in the data directory. Package api says what its
// paths and answers are, package local who gets in.
//
//	request -> mesh by name -> here
//	                        └-> serveEndpoint: this endpoint, or forwarded to another of the user's

func (a *Agent) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/version", func(w http.ResponseWriter, _ *http.Request) { answer.JSON(w, a.config.Version) })
	mux.HandleFunc("GET /api/identity", a.getIdentity)
	mux.HandleFunc("GET /api/meshes", func(w http.ResponseWriter, _ *http.Request) {
		out := []api.Mesh{}
		for _, m := range a.all() {
			out = append(out, m.describe())
		}
		answer.JSON(w, out)
	})
	mux.HandleFunc("POST /api/meshes/{mesh}", a.postMesh)
	mux.HandleFunc("DELETE /api/meshes/{mesh}", func(w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, a.log, nil, a.Leave(r.Context(), r.PathValue("mesh")))
	})
	inMesh := func(pattern string, h func(*mesh, http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			m, err := a.mesh(r.PathValue("mesh"))
			if err != nil {
				answer.Fail(w, a.log, err)
				return
			}
			h(m, w, r)
		})
	}
	reads := func(path string, h func(*mesh, http.ResponseWriter, *http.Request)) { inMesh("GET "+path, h) }
	// Each change is recorded. Of what belongs to an endpoint that is done there, in serveEndpoint.
	change := func(pattern string, h func(*mesh, http.ResponseWriter, *http.Request)) {
		inMesh(pattern, func(m *mesh, w http.ResponseWriter, r *http.Request) {
			_, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, api.MeshesPath+"/"), "/")
			m.audited(w, r, "", what, func(w http.ResponseWriter, r *http.Request) { h(m, w, r) })
		})
	}
	reads("/api/meshes/{mesh}", func(m *mesh, w http.ResponseWriter, _ *http.Request) { answer.JSON(w, m.describe()) })
	change("POST /api/meshes/{mesh}/permits/{user}", (*mesh).postPermit)
	change("POST /api/meshes/{mesh}/permits", (*mesh).postHubPermit)
	reads("/api/meshes/{mesh}/users", (*mesh).getUsers)
	change("DELETE /api/meshes/{mesh}/users/{user}", func(m *mesh, w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		out, err := m.authority.Evict(r.Context(), r.PathValue("user"), q.Get("force") == "true", q.Get("reason"))
		explainEviction(w, "", q.Get("reason"))
		answer.Reply(w, a.log, out, err)
	})
	change("DELETE /api/meshes/{mesh}/devices/{ep}", func(m *mesh, w http.ResponseWriter, r *http.Request) {
		id, err := endpointID(r)
		if err != nil {
			answer.Fail(w, a.log, err)
			return
		}
		q := r.URL.Query()
		out, err := m.authority.EvictDevice(r.Context(), id, q.Get("hub") == "true", q.Get("force") == "true", q.Get("reason"))
		explainEviction(w, strings.TrimSpace(out.Name+" "+string(id)), q.Get("reason"))
		answer.Reply(w, a.log, out, err)
	})
	reads("/api/meshes/{mesh}/evictions", (*mesh).getEvictions)
	reads("/api/meshes/{mesh}/ca", func(m *mesh, w http.ResponseWriter, _ *http.Request) {
		p, err := m.authority.RootPermit()
		writePermit(w, m.log, p, err)
	})
	change("POST /api/meshes/{mesh}/ca", func(m *mesh, w http.ResponseWriter, r *http.Request) {
		var in api.Rotate
		if err := answer.Decode(r, limits.Body, &in); err != nil {
			answer.Fail(w, a.log, err)
			return
		}
		answer.Explain(w, "grace %s", time.Duration(in.Grace))
		p, err := m.authority.Rotate(r.Context(), time.Duration(in.Grace))
		if err == nil && m.policy.Lapses() {
			api.AddWarning(w.Header(), "the policy stays as it is, and nobody gets it anew: this build of ztm signs none. Join another endpoint of root with the new permit, one of the full profile")
		}
		writePermit(w, m.log, p, err)
	})
	reads("/api/meshes/{mesh}/hubs", (*mesh).getHubs)
	change("PUT /api/meshes/{mesh}/hubs", (*mesh).putHubs)
	reads("/api/meshes/{mesh}/endpoints", (*mesh).getEndpoints)
	// A name that is used for the first time is remembered. That gives nobody anything, and is no act.
	inMesh("POST /api/meshes/{mesh}/names/{name}", func(m *mesh, w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		out, err := m.resolve(r.Context(), r.PathValue("name"), q.Get("offer"), q.Get("user"))
		answer.Reply(w, a.log, out, err)
	})
	change("DELETE /api/meshes/{mesh}/names/{name}", func(m *mesh, w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, a.log, nil, m.Unpin(r.PathValue("name")))
	})
	reads("/api/meshes/{mesh}/endpoints/{ep}", (*mesh).getEndpoint)
	reads("/api/meshes/{mesh}/endpoints/{ep}/ping", (*mesh).getPing)
	inMesh("POST /api/meshes/{mesh}/endpoints/{ep}/flows/{path...}", (*mesh).postFlow)
	inMesh("/api/meshes/{mesh}/endpoints/{ep}/{path...}", (*mesh).anyEndpoint)
	mux.Handle("/api/console", a.console(mux))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer.Fail(w, a.log, answer.Errorf(answer.NotFound, "there is no such request: %s %s", r.Method, r.URL.Path))
	})
	return mux
}

func (a *Agent) getIdentity(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(identity.MarshalPublicKey(a.key.Public().(ed25519.PublicKey)))
}

func (a *Agent) postMesh(w http.ResponseWriter, r *http.Request) {
	var in api.Join
	if err := answer.Decode(r, limits.JoinBody, &in); err != nil { // a permit may hold a long trust list
		answer.Fail(w, a.log, err)
		return
	}
	name := r.PathValue("mesh")
	replaced, err := a.join(r.Context(), name, in)
	if err != nil {
		answer.Fail(w, a.log, err)
		return
	}
	m, err := a.mesh(name)
	if err != nil {
		answer.Fail(w, a.log, err)
		return
	}
	// The next command is to find it connected.
	if _, _, err := m.control.Session(r.Context()); err != nil {
		api.AddWarning(w.Header(), "joined, but not connected yet: "+err.Error())
	}
	out := m.describe()
	out.Replaced = replaced
	answer.Created(w, out)
}

func (m *mesh) postPermit(w http.ResponseWriter, r *http.Request) {
	var in api.Invite
	if err := answer.Decode(r, limits.Body, &in); err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	var key ed25519.PublicKey
	if in.PublicKey != "" {
		var err error
		if key, err = identity.ParsePublicKey([]byte(in.PublicKey)); err != nil {
			answer.Fail(w, m.log, answer.Errorf(answer.BadRequest, "%v", err))
			return
		}
	}
	user := r.PathValue("user")
	p, err := m.authority.Invite(r.Context(), user, key, in)
	if m.verifier.Trust().Voids(user, time.Unix(0, 0)) {
		api.AddWarning(w.Header(), "user "+user+" was evicted before. All that endpoints grant to "+user+
			" (tunnels, terminals, scripts, proxies) goes to the one who joins with this permit. For another person choose another name.")
	}
	writePermit(w, m.log, p, err)
}

func (m *mesh) postHubPermit(w http.ResponseWriter, r *http.Request) {
	var in api.InviteHub
	if err := answer.Decode(r, limits.Body, &in); err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	key, err := identity.ParsePublicKey([]byte(in.PublicKey))
	if err != nil {
		answer.Fail(w, m.log, answer.Errorf(answer.BadRequest, "%v", err))
		return
	}
	p, err := m.authority.InviteHub(key, in.Names)
	writePermit(w, m.log, p, err)
}

func writePermit(w http.ResponseWriter, log *slog.Logger, p *identity.Permit, err error) {
	var b []byte
	if err == nil {
		b, err = p.Marshal()
	}
	if err != nil {
		answer.Fail(w, log, err)
		return
	}
	answer.Document(w, b)
}

func (m *mesh) getUsers(w http.ResponseWriter, r *http.Request) {
	all, err := m.shown(r.Context(), w, apps.Filter{})
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	users, err := m.users(all)
	answer.Reply(w, m.log, users, err)
}

// getEvictions lists what the trust list holds, with names as far as they are known.
func (m *mesh) getEvictions(w http.ResponseWriter, r *http.Request) {
	out := []api.Eviction{}
	if _, err := m.Endpoints(r.Context(), apps.Filter{User: rootUser}); err != nil {
		m.log.Debug("names of those who evicted are not known", "err", err)
	}
	for _, e := range m.verifier.Trust().Evictions() {
		v := api.Eviction{User: e.User, ID: e.ID, Hub: e.Hub, Name: e.Name, Owner: e.Owner, At: e.At, By: e.By, Reason: e.Reason, Admitted: e.Admitted}
		v.ByName = m.nameOf(e.By)
		out = append(out, v)
	}
	answer.JSON(w, out)
}

func (m *mesh) getEndpoints(w http.ResponseWriter, r *http.Request) {
	f, err := api.ParseFilter(r.URL.Query())
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	list, err := m.shown(r.Context(), w, f)
	out := make([]api.Endpoint, len(list))
	for i, e := range list {
		out[i] = api.Endpoint{Endpoint: e, Sessions: m.peers.Warm(e.ID), Route: m.route(e.ID)}
	}
	answer.Reply(w, m.log, out, err)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// endpointID is the {ep} of a request.
func endpointID(r *http.Request) (identity.ID, error) {
	id, err := identity.ParseID(r.PathValue("ep"))
	if err != nil {
		return "", answer.Errorf(answer.BadRequest, "%v", err)
	}
	return id, nil
}

func (m *mesh) getEndpoint(w http.ResponseWriter, r *http.Request) {
	id, err := endpointID(r)
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	e, err := m.shownOne(r.Context(), w, id)
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	out := api.Endpoint{Endpoint: e, Sessions: m.peers.Warm(id)}
	if e.Online {
		if rtt, err := m.peers.Ping(r.Context(), id); err == nil {
			out.RTT = ms(rtt)
		}
	}
	out.Route = m.route(id)
	answer.JSON(w, out)
}

func (m *mesh) getPing(w http.ResponseWriter, r *http.Request) {
	id, err := endpointID(r)
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	self := m.Self()
	hops := []api.Hop{{Type: "Endpoint", ID: self.ID, Name: self.Name}}
	hub := api.Hop{Type: "Hub"}
	s, subject, err := m.control.Session(r.Context())
	if err == nil {
		hub.ID, hub.Name = subject.ID, s.Address()
		start := time.Now()
		err = s.Call(r.Context(), http.MethodGet, tunnel.PathHub, nil, nil, nil)
		hub.RTT = ms(time.Since(start))
	}
	if err != nil {
		hub.Error = err.Error()
	}
	hops = append(hops, hub)
	if hub.Error == "" {
		hop := api.Hop{Type: "Endpoint", ID: id}
		e, err := m.lookup(r.Context(), id)
		if err == nil {
			hop.Name = e.Name
			if e.User == m.authority.User() && !e.Local {
				m.peers.Meet(r.Context(), id) // a person who asks for it is an occasion
			}
			var rtt time.Duration
			rtt, err = m.peers.Ping(r.Context(), id)
			hop.RTT = ms(rtt)
		}
		if err != nil {
			hop.Error = err.Error()
		} else if !e.Local {
			route := m.route(id)
			hop.Route = &route
		}
		hops = append(hops, hop)
	}
	answer.JSON(w, hops)
}

// anyEndpoint serves what belongs to an endpoint: here, or by asking the endpoint, which answers
// its own user alone.
func (m *mesh) anyEndpoint(w http.ResponseWriter, r *http.Request) {
	id, err := endpointID(r)
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	if id == m.agent.self {
		m.serveEndpoint(w, r, r.PathValue("path"), "")
		return
	}
	if err := m.forward(w, r, id); err != nil {
		answer.Fail(w, m.log, err)
	}
}

// serveEndpoint manages this endpoint. Requests come from its own user, here or, if by is the ID of
// an endpoint, through the mesh.
func (m *mesh) serveEndpoint(w http.ResponseWriter, r *http.Request, path string, by identity.ID) {
	m.audited(w, r, by, path, func(w http.ResponseWriter, r *http.Request) { m.manage(w, r, path, by == "") })
}

func (m *mesh) manage(w http.ResponseWriter, r *http.Request, path string, here bool) {
	switch name, rest, _ := strings.Cut(path, "/"); {
	case path == "labels" && r.Method == http.MethodGet:
		answer.JSON(w, append([]string{}, m.Self().Labels...))
	case path == "labels" && r.Method == http.MethodPost:
		var labels []string
		err := answer.Decode(r, limits.Body, &labels)
		if err == nil {
			err = m.setLabels(labels)
		}
		answer.Explain(w, "%s", strings.Join(labels, " "))
		answer.Reply(w, m.log, append([]string{}, m.Self().Labels...), err)
	case path == "direct":
		direct.ServeMode(w, r, m.log, m.mode, m.ownMode, m.setMode)
	case name == "tokens" || name == "approvals":
		m.serveTokens(w, r, name, rest)
	case path == "log" && r.Method == http.MethodGet:
		answer.JSON(w, m.recent.Entries())
	case name == "policy":
		m.policy.Manage(w, r, rest)
	case path == "notice":
		m.serveNotices(w, r, here)
	case name == "audit":
		m.serveAudit(w, r, rest)
	case path == "stats" && r.Method == http.MethodGet:
		answer.JSON(w, m.stats())
	case name == "apps":
		m.serveApp(w, r, rest)
	case r.Method == http.MethodGet && m.serveView(w, r, name, rest):
	default:
		answer.Fail(w, m.log, answer.Errorf(answer.NotFound, "an endpoint does not serve %s %q", r.Method, path))
	}
}

func (m *mesh) serveApp(w http.ResponseWriter, r *http.Request, path string) {
	name, rest, _ := strings.Cut(path, "/")
	app := m.apps[name]
	if app == nil {
		answer.Fail(w, m.log, answer.Errorf(answer.NotFound, "endpoint %s has no app %q", m.Self().Name, name))
		return
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = "/"+rest, ""
	r.Body = http.MaxBytesReader(w, r.Body, limits.Body)
	app.API().ServeHTTP(w, r)
}

// isFlow reports what kind of flow a request upgrades to.
func isFlow(r *http.Request) (datagrams, ok bool) {
	switch r.Header.Get("Upgrade") {
	case api.UpgradeFlow:
		return false, true
	case api.UpgradeDatagrams:
		return true, true
	}
	return false, false
}

var errNoUpgrade = errors.New("want Upgrade: " + api.UpgradeFlow + " or " + api.UpgradeDatagrams)
