package tunnel

import (
	"net/http"

	"ztm/tunnel/answer"
)

// maxBody bounds what the API reads of a request, in bytes: a thousand long addresses fit.
const maxBody = 1 << 20

// API manages the tunnels of this endpoint:
//
//	GET              /tunnels                           all inbounds and outbounds
//	GET              /inbound          /outbound        those of one kind
//	GET POST DELETE  /inbound/tcp/web  /outbound/tcp/web
//
//	GET POST         /allow                             who may reach what without an outbound
//
// POST replaces what was there and answers, as GET does, with the state. A POST of a rule to /allow replaces the rule
// of the same target; without users it removes it.
func (a *App) API() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tunnels", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.Status(), nil) })
	mux.HandleFunc("GET /inbound", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.Status().Inbound, nil) })
	mux.HandleFunc("GET /outbound", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.Status().Outbound, nil) })

	mux.HandleFunc("GET /inbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		a.replyInbound(w, pathKey(r))
	})
	mux.HandleFunc("POST /inbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		config := Inbound{Key: pathKey(r)}
		if err := decode(r, &config, &config.Key); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else if err := a.setInbound(config); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else {
			a.replyInbound(w, config.Key)
		}
	})
	mux.HandleFunc("DELETE /inbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, a.host.Log, nil, a.deleteInbound(pathKey(r)))
	})

	mux.HandleFunc("GET /outbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		a.replyOutbound(w, pathKey(r))
	})
	mux.HandleFunc("POST /outbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		config := Outbound{Key: pathKey(r)}
		if err := decode(r, &config, &config.Key); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else if err := a.setOutbound(config); err != nil {
			answer.Reply(w, a.host.Log, nil, err)
		} else {
			a.replyOutbound(w, config.Key)
		}
	})
	mux.HandleFunc("DELETE /outbound/{protocol}/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, a.host.Log, nil, a.deleteOutbound(pathKey(r)))
	})
	mux.HandleFunc("GET /allow", func(w http.ResponseWriter, _ *http.Request) { answer.Reply(w, a.host.Log, a.forwards.list(), nil) })
	mux.HandleFunc("POST /allow", func(w http.ResponseWriter, r *http.Request) {
		var rule Allow
		err := answer.Decode(r, maxBody, &rule)
		if err == nil {
			err = a.setAllow(rule)
		}
		answer.Reply(w, a.host.Log, a.forwards.list(), err)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer.Reply(w, a.host.Log, nil, answer.Errorf(answer.NotFound, "the tunnel app has no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// Status is all of an endpoint's tunnels.
type Status struct {
	Inbound  []InboundStatus  `json:"inbound"`
	Outbound []OutboundStatus `json:"outbound"`
	Allow    []Allow          `json:"allow"`
	Forward  Stats            `json:"forward"` // of the flows that needed no outbound
}

// Status returns the tunnels and all counters. It may be called at any time.
func (a *App) Status() Status {
	s := Status{
		Inbound:  []InboundStatus{},
		Outbound: []OutboundStatus{},
		Allow:    a.forwards.list(),
		Forward:  a.forwards.stats.snapshot(),
	}
	for _, in := range a.allInbounds() {
		s.Inbound = append(s.Inbound, in.status())
	}
	for _, o := range a.allOutbounds() {
		s.Outbound = append(s.Outbound, o.status())
	}
	return s
}

func (a *App) replyInbound(w http.ResponseWriter, k Key) {
	if in := a.inbound(k); in != nil {
		answer.Reply(w, a.host.Log, in.status(), nil)
	} else {
		answer.Reply(w, a.host.Log, nil, a.missing(inboundKind, k))
	}
}

func (a *App) replyOutbound(w http.ResponseWriter, k Key) {
	if o := a.outbound(k); o != nil {
		answer.Reply(w, a.host.Log, o.status(), nil)
	} else {
		answer.Reply(w, a.host.Log, nil, a.missing(outboundKind, k))
	}
}

func pathKey(r *http.Request) Key { return Key{r.PathValue("protocol"), r.PathValue("name")} }

// decode reads a configuration. A field that it does not know is an error: a list of users that is misspelt must not
// become no list. key is the part of the configuration that the path has given already.
func decode(r *http.Request, config any, key *Key) error {
	path := *key
	if err := answer.Decode(r, maxBody, config); err != nil {
		return answer.Errorf(answer.BadRequest, "tunnel %s: %v", path, err)
	}
	if *key != path {
		return answer.Errorf(answer.BadRequest, "tunnel %s: the body is about %s", path, *key)
	}
	return nil
}
