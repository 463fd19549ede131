package agent

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"ztm/agent/web"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// console serves [api.ConsolePath]. What browsers may ask is asked of mux.
func (a *Agent) console(mux http.Handler) http.Handler {
	if a.config.Console == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			answer.Fail(w, a.log, answer.Errorf(answer.NotFound,
				"this binary was built without the console; the console of another endpoint of yours shows this one, too"))
		})
	}
	return a.config.Console(web.Host{API: mux, Open: a.open, Log: a.log, Life: a.life, Go: a.wg.Go})
}

// open opens a flow in a mesh by name.
func (a *Agent) open(ctx context.Context, mesh string, to identity.ID, path string, query url.Values) (net.Conn, error) {
	m, err := a.mesh(mesh)
	if err != nil {
		return nil, err
	}
	return m.Open(ctx, to, path, query)
}
