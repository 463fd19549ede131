package tunnel

import (
	"net/http"

	"ztm/apps/settings"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/tunnel/answer"
)

// maxBody bounds what the API reads of a request, in bytes: a thousand long addresses fit.
const maxBody = 1 << 20

// maxDerivedBody bounds what a set of derived outbounds may be, in bytes: 4096 with 128 targets each.
const maxDerivedBody = 16 << 20

// API manages the tunnels of this endpoint:
//
//	GET              /tunnels                           all inbounds and outbounds
//	GET              /inbound          /outbound        those of one kind
//	GET POST DELETE  /inbound/tcp/web  /outbound/tcp/web
//
//	PUT              /derived/OWNER                     all that an owner derives, see [Derived]
//	GET POST         /allow                             who may reach what without an outbound
//
// POST replaces what was there and answers, as GET does, with the state. A POST of a rule to /allow
// replaces the rule of the same target; without users it removes it.
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tunnels", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.Status(), nil) })
	mux.HandleFunc("GET /inbound", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.Status().Inbound, nil) })
	mux.HandleFunc("GET /outbound", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.Status().Outbound, nil) })

	mux.HandleFunc("GET /inbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		a.replyInbound(w, pathKey(r))
	})
	mux.HandleFunc("POST /inbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		config := spec.Inbound{Key: pathKey(r)}
		if err := decode(r, &config, &config.Key); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else if was, err := a.setInbound(config); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else {
			answer.Explain(w, "%s", settings.Difference(was, config))
			a.replyInbound(w, config.Key)
		}
	})
	mux.HandleFunc("DELETE /inbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		was, err := a.deleteInbound(pathKey(r))
		answer.Explain(w, "%s", settings.Difference(was, spec.Inbound{Key: was.Key}))
		answer.Reply(w, a.host.Log, nil, err)
	})

	mux.HandleFunc("GET /outbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		a.replyOutbound(w, pathKey(r))
	})
	mux.HandleFunc("POST /outbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		config := spec.Outbound{Key: pathKey(r)}
		if err := decode(r, &config, &config.Key); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else if was, err := a.setOutbound(config); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else {
			answer.Explain(w, "%s", settings.Difference(was, config))
			a.replyOutbound(w, config.Key)
		}
	})
	mux.HandleFunc("DELETE /outbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		was, err := a.deleteOutbound(pathKey(r))
		answer.Explain(w, "%s", settings.Difference(was, spec.Outbound{Key: was.Key}))
		answer.Reply(w, a.host.Log, nil, err)
	})
	mux.HandleFunc("PUT /derived/{owner}", func(w http.ResponseWriter, r *http.Request) {
		var set Derived
		var out DerivedAnswer
		err := answer.Decode(r, maxDerivedBody, &set)
		if err == nil {
			out, err = a.setDerived(r.PathValue("owner"), set)
		}
		answer.Reply(w, a.host.Log, out, err)
	})
	mux.HandleFunc("GET /allow", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.forwards.List(), nil) })
	mux.HandleFunc("POST /allow", func(w http.ResponseWriter, r *http.Request) {
		var rule spec.Allow
		err := answer.Decode(r, maxBody, &rule)
		if err == nil {
			var was []string
			was, err = a.setAllow(rule)
			answer.Explain(w, "%s", settings.Difference(map[string]any{rule.Target.String(): was}, map[string]any{rule.Target.String(): rule.Users}))
		}
		answer.Reply(w, a.host.Log, a.forwards.List(), err)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, a.host.Log, nil, answer.Errorf(answer.NotFound, "the tunnel app has no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// Status is all of an endpoint's tunnels.
type Status struct {
	Inbound  []entrance.Status `json:"inbound"`
	Outbound []exit.Status     `json:"outbound"`
	Allow    []spec.Allow      `json:"allow"`
	Forward  traffic.Stats     `json:"forward"` // of the flows that needed no outbound
	Derived  Owners            `json:"derived"` // whose the ends are that nobody set by hand
}

// Status returns the tunnels and all counters. It may be called at any time.
func (a *App) Status() Status {
	s := Status{
		Inbound:  []entrance.Status{},
		Outbound: []exit.Status{},
		Allow:    a.forwards.List(),
		Forward:  a.forwards.Stats.Snapshot(),
		Derived:  a.owners(),
	}
	for _, in := range a.allInbounds() {
		s.Inbound = append(s.Inbound, in.Status())
	}
	for _, o := range a.allOutbounds() {
		s.Outbound = append(s.Outbound, o.Status())
	}
	return s
}

func (a *App) replyInbound(w http.ResponseWriter, k spec.Key) {
	if in := a.inbound(k); in != nil {
		answer.Reply(w, a.host.Log, in.Status(), nil)
	} else {
		answer.Reply(w, a.host.Log, nil, a.missing(spec.InboundKind, k))
	}
}

func (a *App) replyOutbound(w http.ResponseWriter, k spec.Key) {
	if o := a.outbound(k); o != nil {
		answer.Reply(w, a.host.Log, o.Status(), nil)
	} else {
		answer.Reply(w, a.host.Log, nil, a.missing(spec.OutboundKind, k))
	}
}

func pathKey(r *http.Request) spec.Key {
	return spec.Key{Protocol: r.PathValue("protocol"), Name: r.PathValue("name")}
}

// decode reads a configuration. A field that it does not know is an error: a list of users that is
// misspelt must not become no list. key is the part of the configuration that the path has given
// already.
func decode(r *http.Request, config any, key *spec.Key) error {
	path := *key
	if err := answer.Decode(r, maxBody, config); err != nil {
		return answer.Errorf(answer.BadRequest, "tunnel %s: %v", path, err)
	}
	if *key != path {
		return answer.Errorf(answer.BadRequest, "tunnel %s: the body is about %s", path, *key)
	}
	return nil
}
