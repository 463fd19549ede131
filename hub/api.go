package hub

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
)

// The codes of refusals: those of apps.Code, which a hub does not know.
const (
	codeRequest     = "http_request_error"
	codeDenied      = "http_request_denied"
	codeNotFound    = "destination_not_found"
	codeConflict    = "conflict"
	codeLimit       = "connection_limit_reached"
	codeInternal    = "proxy_internal_error"
	codeUnavailable = "destination_unavailable"
	codeTimeout     = "connection_timeout"
	codeBroken      = "connection_terminated"
)

var (
	errShutdown = tunnel.Refusef(503, codeUnavailable, "the hub is shutting down")
	errGone     = tunnel.Refusef(502, codeBroken, "the other side went away")
	errNoPath   = tunnel.Refusef(404, codeNotFound, "the hub knows no such request")
)

// route is one kind of request. p is who asks, from the certificate of the connection; arg is what follows the path.
type route struct {
	name   string // for the counters
	method string
	path   string // the whole path, or with a slash at the end the path before arg
	serve  func(s *server, w http.ResponseWriter, r *http.Request, p *peer, arg string) error
}

var routes = []route{
	{"hub", "GET", tunnel.PathHub, (*server).getHub},
	{"list", "GET", tunnel.PathEndpoints, (*server).listEndpoints},
	{"get", "GET", tunnel.PathEndpoints + "/", (*server).getEndpoint},
	{"put", "PUT", tunnel.PathEndpoints + "/", (*server).putEndpoint},
	{"delete", "DELETE", tunnel.PathEndpoints + "/", (*server).deleteEndpoint},
	{"events", "GET", tunnel.PathEvents, (*server).getEvents},
	{"trust", "GET", tunnel.PathTrust, (*server).getTrust},
	{"set trust", "POST", tunnel.PathTrust, (*server).postTrust},
	{"sign", "POST", tunnel.PathSign + "/", (*server).postSign},
	{"renew", "POST", tunnel.PathRenew, (*server).postRenew},
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
		return nil, "", tunnel.Refusef(405, codeRequest, "this request is not made with %s", method)
	}
	return nil, "", errNoPath
}

// handler serves the control sessions. carriers is the context of carriers that are streams of them.
func (s *server) handler(carriers context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.handlers.enter() {
			writeRefusal(w, errShutdown)
			return
		}
		defer s.handlers.leave()
		p := h2.Tag(r).(*peer)
		if !s.welcomes(p) {
			p.cut()
			return
		}
		if !s.requests.Take(p.ID, time.Now()) {
			writeRefusal(w, limited("endpoint %s asks too often", p.ID))
			return
		}
		if r.Method == http.MethodConnect {
			s.carryStream(carriers, w, r, p)
			return
		}
		name := "unknown"
		route, arg, err := find(r.Method, r.URL.Path)
		if err == nil {
			name = route.name
			err = route.serve(s, w, r, p, arg)
		}
		s.metrics.request(name, err)
		if err == nil {
			return
		}
		refusal := refusalOf(err)
		if refusal.Code == codeInternal {
			s.log.Error("request failed", "request", name, "endpoint", p.ID, "err", err)
		}
		writeRefusal(w, refusal)
	})
}

// welcomes reports whether a peer that was let in is still welcome. An eviction has cut its connection already, unless
// both happened in the same moment; a certificate may have expired under a connection that lasts.
func (s *server) welcomes(p *peer) bool {
	return s.verifier.Trust().Rejudge(p.Subject, s.verifier.Clock().Now()) == nil
}

// refusalOf returns what a peer gets to see of an error: a refusal as it is, and of anything else no more than that it
// happened.
func refusalOf(err error) *tunnel.Refusal {
	var r *tunnel.Refusal
	if errors.As(err, &r) {
		return r
	}
	return tunnel.Refusef(500, codeInternal, "the hub failed; its log says why")
}

func writeRefusal(w http.ResponseWriter, r *tunnel.Refusal) {
	b, err := json.Marshal(r)
	if err != nil {
		panic("hub: internal error: marshalling a refusal: " + err.Error())
	}
	write(w, r.Status, "application/json", b)
}

func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	write(w, http.StatusOK, "application/json", b)
	return nil
}

// write sends an answer. That the peer does not take it is the peer's loss.
func write(w http.ResponseWriter, status int, kind string, body []byte) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// readBody reads the body of a request, of at most max bytes, which must arrive within bodyTimeout.
func readBody(w http.ResponseWriter, r *http.Request, max int64) ([]byte, error) {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := readLimited(r.Body, max)
	if err != nil {
		return nil, tunnel.Refusef(400, codeRequest, "request body: %v", err)
	}
	return b, nil
}

// readLimited reads all of r, and fails where that is more than max bytes.
func readLimited(r io.Reader, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(b)) > max {
		return nil, errors.New("more than " + strconv.FormatInt(max, 10) + " bytes")
	}
	return b, err
}

// getHub is GET /v1/hub.
func (s *server) getHub(w http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	return writeJSON(w, tunnel.HubStatus{
		ID:         s.id,
		Version:    s.config.Version,
		Since:      s.since,
		Names:      s.names,
		Agents:     int(s.registry.online.Load()),
		Carriers:   int(s.metrics.carriers.open.Load()),
		MaxAgents:  s.config.Limits.Agents,
		KeepsCA:    s.ca != nil,
		Trust:      s.verifier.Trust().Version(),
		ClientAddr: p.addr.String(),
	})
}

// listEndpoints is GET /v1/endpoints.
func (s *server) listEndpoints(w http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		return tunnel.Refusef(400, codeRequest, "%v", err)
	}
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
	case <-r.Context().Done():
		return errGone
	}
	return writeJSON(w, s.registry.list(f))
}

func parseFilter(q url.Values) (f filter, err error) {
	f = filter{name: q.Get("name"), user: q.Get("user"), offer: q.Get("offer"), keyword: q.Get("keyword")}
	if v := q.Get("online"); v != "" {
		if f.online, err = strconv.ParseBool(v); err != nil {
			return f, errors.New("online: want true or false")
		}
	}
	for _, n := range []struct {
		key string
		to  *int
	}{{"offset", &f.offset}, {"limit", &f.limit}} {
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
	entry, err := s.registry.entry(id)
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
		return tunnel.Refusef(403, codeDenied, "endpoint %s cannot write the record of endpoint %s", p.ID, id)
	}
	if !s.changes.Take(p.ID, time.Now()) {
		return limited("endpoint %s changes its record too often", p.ID)
	}
	doc, err := readBody(w, r, identity.MaxRecord)
	if err != nil {
		return err
	}
	rec, subject, err := s.verifier.Record(doc)
	switch {
	case err != nil:
		return tunnel.Refusef(400, codeRequest, "%v", err)
	case subject.ID != p.ID:
		return tunnel.Refusef(403, codeDenied, "this is the record of endpoint %s, and it comes from endpoint %s", subject.ID, p.ID)
	}
	if err := s.registry.register(doc, rec, subject); err != nil {
		return err
	}
	// It may have been evicted since it was judged, and the eviction not have found the record.
	if err := s.verifier.Trust().Rejudge(subject, s.verifier.Clock().Now()); err != nil {
		s.forget(id)
		return tunnel.Refusef(403, codeDenied, "%v", err)
	}
	if _, online, _ := s.registry.find(p.ID); online != nil && p.User == rootUser {
		s.signers.wake() // it may have another CA key now
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteEndpoint is DELETE /v1/endpoints/ID: an endpoint leaves, or root tidies up.
func (s *server) deleteEndpoint(w http.ResponseWriter, _ *http.Request, p *peer, arg string) error {
	id, err := parseID(arg)
	if err != nil {
		return err
	}
	if id != p.ID && p.User != rootUser {
		return tunnel.Refusef(403, codeDenied, "only user %s may remove the endpoints of others", rootUser)
	}
	if !s.changes.Take(p.ID, time.Now()) {
		return limited("endpoint %s removes endpoints too often", p.ID)
	}
	if err := s.forget(id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// forget removes an endpoint from the directory.
func (s *server) forget(id identity.ID) error {
	gone := s.registry.remove(func(r *row) bool { return r.Subject.ID == id })
	if len(gone) == 0 {
		return tunnel.Refusef(404, codeNotFound, "there is no endpoint %s", id)
	}
	return s.registry.saver.save(gone...)
}

func parseID(s string) (identity.ID, error) {
	id, err := identity.ParseID(s)
	if err != nil {
		return "", tunnel.Refusef(400, codeRequest, "%v", err)
	}
	return id, nil
}
