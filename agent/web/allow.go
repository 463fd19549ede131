package web

import (
	"log/slog"
	"net/http"

	"ztm/tunnel/answer"
)

// requests are what a page may ask of the agent's API. All else is refused, whatever the API has:
// the key of the mesh is not for a browser, nor is the permit of a hub.
var requests = []string{
	"GET /api/version",
	"GET /api/identity",
	"GET /api/meshes",
	"POST /api/meshes/{mesh}",
	"DELETE /api/meshes/{mesh}",
	"GET /api/meshes/{mesh}",
	"POST /api/meshes/{mesh}/permits/{user}",
	"GET /api/meshes/{mesh}/users",
	"DELETE /api/meshes/{mesh}/users/{user}",
	"DELETE /api/meshes/{mesh}/devices/{ep}",
	"GET /api/meshes/{mesh}/evictions",
	"GET /api/meshes/{mesh}/hubs",
	"GET /api/meshes/{mesh}/endpoints",
	"POST /api/meshes/{mesh}/names/{name}",
	"DELETE /api/meshes/{mesh}/names/{name}",
	"GET /api/meshes/{mesh}/endpoints/{ep}",
	"GET /api/meshes/{mesh}/endpoints/{ep}/{path...}",
	"POST /api/meshes/{mesh}/endpoints/{ep}/labels",
	"POST /api/meshes/{mesh}/endpoints/{ep}/tokens/{path...}",
	"DELETE /api/meshes/{mesh}/endpoints/{ep}/tokens/{path...}",
	"POST /api/meshes/{mesh}/endpoints/{ep}/approvals",
	"POST /api/meshes/{mesh}/endpoints/{ep}/policy/groups/{name}",
	"PUT /api/meshes/{mesh}/endpoints/{ep}/policy/source",
	"POST /api/meshes/{mesh}/endpoints/{ep}/apps/{path...}",
	"PUT /api/meshes/{mesh}/endpoints/{ep}/apps/{path...}",
	"PATCH /api/meshes/{mesh}/endpoints/{ep}/apps/{path...}",
	"DELETE /api/meshes/{mesh}/endpoints/{ep}/apps/{path...}",
}

// allowed passes on what is among the requests.
func allowed(api http.Handler, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	for _, pattern := range requests {
		mux.Handle(pattern, api)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer.Fail(w, log, answer.Errorf(answer.NotFound, "the console has no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// flows are the paths of apps that a page may open a flow to, and whether a page that only looks
// may.
var flows = map[string]bool{
	"terminal/shell": false, "terminal/attach": false, "terminal/end": false, "terminal/sessions": true,
	"script/run": false,
	"file/list":  true, "file/read": false, "file/write": false,
	"cloud/put": false, "cloud/get": false,
}
