package proxy

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"ztm/apps"
	"ztm/apps/proxy/route"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Where is where a connection would go. Nothing is opened for it: an exit may still refuse.
type Where struct {
	Destination string      `json:"destination"`      // as it is compared with patterns; without a port if any is meant
	Steps       []WhereStep `json:"steps"`            // tried in this order; none: the connection goes nowhere
	Reason      string      `json:"reason,omitempty"` // why it goes nowhere
}

// WhereStep is one place that a connection may go to. The next counts if no exit of this one knows the
// name.
type WhereStep struct {
	By      string      `json:"by"`                // see package route: route, target, search, catch-all, default
	Pattern string      `json:"pattern,omitempty"` // of the route
	Exits   []WhereExit `json:"exits"`             // tried in this order; none: the connection is made from this endpoint
}

// WhereExit is an exit that a connection may leave the mesh at.
type WhereExit struct {
	ID    identity.ID `json:"id"`
	Name  string      `json:"name"`           // the ID, where the name is not known
	User  string      `json:"user,omitempty"` // "" where it is not known
	RTT   float64     `json:"rtt,omitempty"`  // milliseconds
	Error string      `json:"error,omitempty"`
}

func (a *App) where(r *http.Request) (any, error) {
	d, err := parseWhere(r.URL.Query().Get("target"))
	if err != nil {
		return nil, badRequest(err)
	}
	out := Where{Destination: d.Text(), Steps: []WhereStep{}}
	steps, err := a.router.Where(r.Context(), d)
	switch answer.CodeOf(err) {
	case answer.NotFound, answer.Prohibited:
		out.Reason = err.Error()
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, s := range steps {
		out.Steps = append(out.Steps, a.whereStep(r, s))
	}
	return out, nil
}

func (a *App) whereStep(r *http.Request, s route.Step) WhereStep {
	out := WhereStep{By: s.By, Pattern: s.Pattern, Exits: []WhereExit{}}
	for _, c := range s.Exits {
		e := WhereExit{ID: c.ID, Name: c.Name, User: c.User, RTT: apps.Milliseconds(c.RTT)}
		if e.Name == "" { // no exit that is online
			all, err := a.host.Mesh.Endpoints(r.Context(), apps.Filter{})
			e.Name, e.Error = endpointName(all, c.ID), "it is offline, or no exit"
			if err != nil {
				e.Error = err.Error()
			}
		}
		if c.Err != nil {
			e.Error = c.Err.Error()
		}
		out.Exits = append(out.Exits, e)
	}
	return out
}

// parseWhere reads HOST or HOST:PORT. Without a port every port is meant.
// Of an address that a browser shows, the host and the port of its scheme count.
func parseWhere(s string) (reach.Dest, error) {
	if u, err := url.Parse(s); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		s = u.Host
		if u.Port() == "" {
			s += ":80"
			if u.Scheme == "https" {
				s = u.Host + ":443"
			}
		}
	}
	if _, _, err := net.SplitHostPort(s); err == nil {
		return reach.ParseDest(s)
	}
	return reach.NewDest(strings.Trim(s, "[]"), 0)
}
