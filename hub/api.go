package hub

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ztm/hub/admission"
	"ztm/hub/directory"
	"ztm/hub/limits"
	"ztm/hub/link"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/unixtime"
)

var (
	errShutdown = answer.Errorf(answer.Unavailable, "the hub is shutting down")
	errGone     = answer.Errorf(answer.Broken, "the other side went away")
	errNoPath   = answer.Errorf(answer.NotFound, "there is no such request")
)

// route is one kind of request. p is the peer that asks, by the certificate of its connection; arg
// is what follows the path.
type route struct {
	name   string // for the counters
	method string
	path   string // the whole path, or with a slash at the end the path before arg
	budget admission.Budget
	serve  func(s *server, w http.ResponseWriter, r *http.Request, p *peer, arg string) error
}

var routes = []route{
	{"hub", "GET", tunnel.PathHub, admission.Staying, (*server).getHub},
	{"list", "GET", tunnel.PathEndpoints, admission.Listing, (*server).listEndpoints},
	{"get", "GET", tunnel.PathEndpoints + "/", admission.Lookup, (*server).getEndpoint},
	{"put", "PUT", tunnel.PathEndpoints + "/", admission.Staying, (*server).putEndpoint},
	{"delete", "DELETE", tunnel.PathEndpoints + "/", admission.Staying, (*server).deleteEndpoint},
	{"events", "GET", tunnel.PathEvents, admission.Staying, (*server).getEvents},
	{"trust", "GET", tunnel.PathTrust, admission.Staying, (*server).getTrust},
	{"fork", "GET", tunnel.PathTrust + "/", admission.Staying, (*server).getFork},
	{"set trust", "POST", tunnel.PathTrust, admission.Staying, (*server).postTrust},
	{"sign", "POST", tunnel.PathSign + "/", admission.Staying, (*server).postSign},
	{"token", "GET", tunnel.PathTokens + "/", admission.Staying, (*server).getToken},
	{"revoke token", "DELETE", tunnel.PathTokens + "/", admission.Staying, (*server).deleteToken},
	{"delete ticket", "DELETE", tunnel.PathTickets + "/", admission.Answering, (*server).deleteTicket},
	{"hubs", "GET", tunnel.PathHubs, admission.Staying, (*server).getHubs},
	{"renew", "POST", tunnel.PathRenew, admission.Staying, (*server).postRenew},
}

// find returns the route of a request, or a refusal.
func find(method, path string) (*route, string, error) {
	known := false
	for i := range routes {
		r := &routes[i]
		arg, ok := strings.CutPrefix(path, r.path)
		if !ok || (arg != "") != strings.HasSuffix(r.path, "/") {
			continue
		}
		if r.method == method {
			return r, arg, nil
		}
		known = true
	}
	if known {
		return nil, "", answer.Errorf(answer.BadRequest, "method %s is not allowed here", method)
	}
	return nil, "", errNoPath
}

// handler serves the control sessions. paths is the context of paths that are streams of them.
func (s *server) handler(paths context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.handlers.Enter() {
			s.fail(w, errShutdown)
			return
		}
		defer s.handlers.Leave()
		p := h2.Tag(r).(*peer)
		if !s.welcomes(p) {
			p.cut()
			return
		}
		if p.Role == identity.RoleHub {
			s.serveHub(w, r, p)
			return
		}
		route, arg, err := find(r.Method, r.URL.Path)
		if kind, what := cost(r, route, arg); !s.requests.Take(p.Subject, kind, what, time.Now()) {
			s.fail(w, answer.Errorf(answer.Limit, "endpoint %s asks too often", p.ID))
			return
		}
		if r.Method == http.MethodConnect {
			s.carryStream(paths, w, r, p)
			return
		}
		name := "unknown"
		if err == nil {
			name = route.name
			err = route.serve(s, w, r, p, arg)
		}
		s.metrics.request(name, err)
		if err == nil {
			return
		}
		hurry(w)
		answer.Fail(w, s.log.With("request", name, "endpoint", p.ID), err)
	})
}

// cost returns the budget that a request is charged to, and what it is about. route is nil if the
// hub knows no such request.
func cost(r *http.Request, route *route, arg string) (kind admission.Budget, what string) {
	switch {
	case r.Method == http.MethodConnect && r.Header.Get(tunnel.FieldTicket) != "":
		return admission.Answering, ""
	case r.Method == http.MethodConnect:
		return admission.Opening, r.Host
	case route == nil:
		return admission.Lookup, ""
	case route.budget == admission.Lookup:
		return admission.Lookup, arg
	case route.budget == admission.Listing:
		q := r.URL.Query()
		if name := q.Get("name"); name != "" {
			return admission.Lookup, name
		}
		return admission.Listing, q.Get("offer")
	}
	return route.budget, ""
}

// welcomes reports whether a peer that was let in is still welcome. An eviction has cut its
// connection already, unless both happened at the same moment; a certificate may have expired under
// a connection that lasts.
func (s *server) welcomes(p *peer) bool {
	return s.verifier.Trust().Reverify(p.Subject, s.verifier.Clock().Now()) == nil
}

// hurry gives the peer limits.WriteTimeout to take the answer.
func hurry(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limits.WriteTimeout))
}

func (s *server) fail(w http.ResponseWriter, err error) {
	hurry(w)
	answer.Fail(w, s.log, err)
}

func writeJSON(w http.ResponseWriter, v any) error {
	hurry(w)
	answer.JSON(w, v)
	return nil
}

// readBody reads the body of a request, of at most max bytes, which must arrive within limits.BodyTimeout.
// It takes one of the places for bodies: a user who has many places loses one to a user who has
// none.
func (s *server) readBody(places *limit.Share[string], w http.ResponseWriter, r *http.Request, p *peer, max int64) ([]byte, error) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(limits.BodyTimeout))
	var yielded atomic.Bool
	release, ok := places.Acquire(p.User, func() {
		yielded.Store(true)
		rc.SetReadDeadline(time.Unix(1, 0))
	})
	if !ok {
		return nil, answer.Errorf(answer.Limit, "user %s sends too much at a time", p.User)
	}
	defer release()
	b, err := answer.Body(r, max)
	if err != nil && yielded.Load() {
		return nil, answer.Errorf(answer.Limit, "user %s sends too much at a time", p.User)
	}
	return b, err
}

// getHub is GET /v1/hub.
func (s *server) getHub(w http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	_, online := s.directory.Size()
	return writeJSON(w, tunnel.HubStatus{
		ID:         s.id,
		Version:    s.config.Version,
		Since:      s.since,
		Names:      s.names,
		Agents:     online,
		Relays:     int(s.relay.Metrics().Open.Load()),
		MaxAgents:  s.config.Limits.Agents,
		KeepsCA:    s.ca != nil,
		Shared:     s.shared != nil,
		Trust:      s.verifier.Trust().Version(),
		Links:      s.links.Linked(),
		ClientAddr: p.addr.String(),
		Time:       unixtime.Of(s.verifier.Clock().Now()),
		Note:       s.note(),
	})
}

// note is what people should know of this hub; may be empty.
func (s *server) note() string {
	if s.another && s.links.Linked() == 0 {
		return state.InsteadOfRoot
	}
	return ""
}

// listEndpoints is GET /v1/endpoints.
func (s *server) listEndpoints(w http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
	case <-r.Context().Done():
		return errGone
	}
	return writeJSON(w, s.directory.List(f))
}

func parseFilter(q url.Values) (f directory.Filter, err error) {
	f = directory.Filter{Name: q.Get("name"), User: q.Get("user"), Offer: q.Get("offer"), Keyword: q.Get("keyword")}
	if v := q.Get("online"); v != "" {
		if f.Online, err = strconv.ParseBool(v); err != nil {
			return f, errors.New("online: want true or false")
		}
	}
	for _, n := range []struct {
		key string
		to  *int
	}{{"offset", &f.Offset}, {"limit", &f.Limit}} {
		v := q.Get(n.key)
		if v == "" {
			continue
		}
		u, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return f, errors.New(n.key + ": want a number")
		}
		*n.to = int(u)
	}
	return f, nil
}

// getEndpoint is GET /v1/endpoints/ID.
func (s *server) getEndpoint(w http.ResponseWriter, _ *http.Request, _ *peer, arg string) error {
	id, err := parseID(arg)
	if err != nil {
		return err
	}
	entry, err := s.directory.Entry(id)
	if err != nil {
		return err
	}
	return writeJSON(w, entry)
}

// putEndpoint is PUT /v1/endpoints/ID: the caller's own record, signed by its key.
func (s *server) putEndpoint(w http.ResponseWriter, r *http.Request, p *peer, arg string) error {
	id, err := parseID(arg)
	if err != nil {
		return err
	}
	if id != p.ID {
		return answer.Errorf(answer.Denied, "endpoint %s cannot write the record of endpoint %s", p.ID, id)
	}
	if !s.changes.Take(p.ID, time.Now()) {
		return answer.Errorf(answer.Limit, "endpoint %s changes its record too often", p.ID)
	}
	doc, err := s.readBody(s.bodies, w, r, p, identity.MaxRecord)
	if err != nil {
		return err
	}
	rec, subject, err := s.verifier.Record(doc)
	switch {
	case err != nil:
		return answer.Errorf(answer.BadRequest, "%v", err)
	case subject.ID != p.ID:
		return answer.Errorf(answer.Denied, "this is the record of endpoint %s, and it comes from endpoint %s", subject.ID, p.ID)
	}
	if err := s.claims.MakeRoom(rec.Name, subject, r.URL.Query().Get("replace") == "true"); err != nil {
		return err
	}
	if err := s.directory.Put(doc, rec, subject); err != nil {
		return err
	}
	// The user may have been evicted after the record was verified and before it was in the
	// directory.
	if err := s.verifier.Trust().Reverify(subject, s.verifier.Clock().Now()); err != nil {
		s.forget(id, true)
		return answer.Errorf(answer.Denied, "%v", err)
	}
	if p.User == identity.RootUser && s.sessions.of(p.ID) != nil {
		s.signers.wake() // it may have another CA key now
	}
	s.links.Endpoint(id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteEndpoint is DELETE /v1/endpoints/ID: an endpoint leaves, or user root removes it.
func (s *server) deleteEndpoint(w http.ResponseWriter, _ *http.Request, p *peer, arg string) error {
	id, err := parseID(arg)
	if err != nil {
		return err
	}
	if id != p.ID && p.User != identity.RootUser {
		return answer.Errorf(answer.Denied, "only user %s may remove the endpoints of others", identity.RootUser)
	}
	if !s.changes.Take(p.ID, time.Now()) {
		return answer.Errorf(answer.Limit, "endpoint %s removes endpoints too often", p.ID)
	}
	if err := s.forget(id, p.User != identity.RootUser); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// forget removes an endpoint from the directory, and keeps its name for its user if keep says so.
func (s *server) forget(id identity.ID, keep bool) error {
	recorded := unixtime.Millis(0)
	if book, ok := s.directory.(link.Book); ok {
		_, recorded = book.Record(id)
	}
	gone, err := s.directory.Remove(keep, func(sub identity.Subject) bool { return sub.ID == id })
	if gone == 0 {
		return answer.Errorf(answer.NotFound, "there is no endpoint %s", id)
	}
	s.links.Left(id, recorded, keep)
	return err
}

func parseID(s string) (identity.ID, error) {
	id, err := identity.ParseID(s)
	if err != nil {
		return "", answer.Errorf(answer.BadRequest, "%v", err)
	}
	return id, nil
}
