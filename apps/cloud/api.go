package cloud

import (
	"net/http"
	"path/filepath"
	"time"

	"ztm/apps/builtin"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/load"
	"ztm/apps/cloud/state"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
)

// maxBody is the longest body of a request, in bytes.
const maxBody = 64 << 10

// Named is a request about what is at or below a path.
type Named struct {
	Path   string   `json:"path"`
	Share  []string `json:"share,omitempty"` // publish: users; "*" is all
	Force  bool     `json:"force,omitempty"` // erase: the last copy, too; unpublish: what a mirror would publish again
	DryRun bool     `json:"dryRun,omitempty"`
}

// routes is the API:
//
//	GET   /files?path=P[&offline=1]   []File          GET, PATCH /config   config.Config, config.Change
//	GET   /file?path=P                Described       GET   /status        Status
//	POST  /publish, /unpublish, /erase  Named -> []Result
//	POST  /share                      ShareChange -> []Result
//	POST  /verify                     Named -> []File
//	POST  /downloads                  Named -> Started
//	GET   /downloads                  []Progress
//	GET   /downloads/ID[?wait=1]      Progress; with wait, when it has ended or after a second
//	DELETE /downloads/ID              ends it; what has come stays
//	GET   /mirrors                    []MirrorState
//	POST  /mirrors                    mirror.Change -> MirrorState
//	GET   /versions?path=P            []Version
//	POST  /restore                    Restoring -> Version
func (a *App) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/config", settings.API(&a.settings, a.log(), (*config.Config).Apply, func(before, after config.Config) (settings.Prepared, error) {
		return settings.Prepared{Commit: func() { a.configured(before, after) }}, nil
	}))
	routes := map[string]func(*http.Request) (any, error){
		"GET /files":             a.getFiles,
		"GET /file":              func(r *http.Request) (any, error) { return a.describe(r.URL.Query().Get("path")) },
		"GET /status":            func(*http.Request) (any, error) { return a.status() },
		"POST /publish":          a.postPublish,
		"POST /unpublish":        a.postUnpublish,
		"POST /erase":            a.postErase,
		"POST /restore":          a.postRestore,
		"GET /versions":          func(r *http.Request) (any, error) { return a.versions(r.URL.Query().Get("path")) },
		"POST /verify":           a.postVerify,
		"POST /downloads":        a.postDownload,
		"GET /downloads":         func(*http.Request) (any, error) { return a.loads.List(), nil },
		"GET /downloads/{id}":    a.getDownload,
		"DELETE /downloads/{id}": a.deleteDownload,
	}
	if builtin.Mirrors {
		routes["GET /mirrors"] = func(*http.Request) (any, error) { return a.mirrorStates(), nil }
		routes["POST /mirrors"] = a.postMirror
	}
	serve := func(pattern string, f func(http.ResponseWriter, *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if a.broken != nil {
				answer.Fail(w, a.log(), a.broken)
				return
			}
			v, err := f(w, r)
			answer.Reply(w, a.log(), v, err)
		})
	}
	for pattern, f := range routes {
		serve(pattern, func(_ http.ResponseWriter, r *http.Request) (any, error) { return f(r) })
	}
	serve("POST /share", a.postShare)
	return mux
}

// look asks the other endpoints for news first, unless that is not wanted.
func (a *App) look(r *http.Request, user string) {
	if r.URL.Query().Get("offline") != "" {
		return
	}
	if err := a.learner.Refresh(r.Context(), user); err != nil {
		a.log().Info("not all endpoints told what they have", "err", err)
	}
}

func (a *App) getFiles(r *http.Request) (any, error) {
	user, path, err := a.split(r.URL.Query().Get("path"))
	if err != nil {
		return nil, err
	}
	a.look(r, user)
	path = a.spelled(user, path)
	list, err := a.files(user, path)
	if err == nil && list == nil {
		list = []File{}
	}
	return list, err
}

// named reads the body of a request.
func named(r *http.Request) (n Named, err error) { return n, answer.Decode(r, maxBody, &n) }

// place reads the body of a request, and where its path leads.
func (a *App) place(r *http.Request) (n Named, user, path string, err error) {
	if n, err = named(r); err == nil {
		user, path, err = a.split(n.Path)
	}
	return n, user, path, err
}

func (a *App) postPublish(r *http.Request) (any, error) {
	n, err := named(r)
	if err != nil {
		return nil, err
	}
	path, err := a.own(n.Path)
	if err != nil {
		return nil, err
	}
	paths, err := a.below(path)
	if err != nil {
		return nil, err
	}
	return a.publish(r.Context(), paths, n.Share)
}

// below lists the files of the local directory at or below a path of the user's own tree.
func (a *App) below(path string) ([]string, error) {
	files, err := a.files(a.author().User, path)
	var paths []string
	for _, f := range files {
		if f.State != state.Missing {
			_, p, _ := a.split(f.Path)
			paths = append(paths, p)
		}
	}
	if err == nil && len(paths) == 0 {
		err = answer.Errorf(answer.NotFound, "there is no file %s in the local directory", NameOf(a.author().User, path))
	}
	return paths, err
}

func (a *App) postUnpublish(r *http.Request) (any, error) {
	n, err := named(r)
	if err != nil {
		return nil, err
	}
	path, err := a.own(n.Path)
	if err == nil && !n.Force {
		err = a.inMirror(path)
	}
	if err != nil {
		return nil, err
	}
	return a.unpublish(path, true, n.DryRun)
}

func (a *App) postErase(r *http.Request) (any, error) {
	n, err := named(r)
	if err != nil {
		return nil, err
	}
	a.look(r, "")
	return a.erase(n.Path, n.Force, n.DryRun)
}

func (a *App) postShare(w http.ResponseWriter, r *http.Request) (any, error) {
	var c ShareChange
	if err := answer.Decode(r, maxBody, &c); err != nil {
		return nil, err
	}
	answer.Explain(w, "%s", c)
	results, err := a.share(c)
	if err == nil && results == nil {
		results = []Result{}
	}
	return results, err
}

func (a *App) postVerify(r *http.Request) (any, error) {
	_, user, path, err := a.place(r)
	if err != nil {
		return nil, err
	}
	list, err := a.verifyAll(r.Context(), user, path)
	if err == nil && list == nil {
		list = []File{}
	}
	return list, err
}

// Started is a download that has begun.
type Started struct {
	load.Progress
	Place string `json:"place"` // in the file system, of what comes
}

func (a *App) postDownload(r *http.Request) (any, error) {
	n, user, path, err := a.place(r)
	if err != nil {
		return nil, err
	}
	a.look(r, user)
	path = a.spelled(user, path)
	var rows []index.Row
	a.each(user, path, func(row index.Row) {
		if !row.Deleted {
			rows = append(rows, row)
		}
	})
	if len(rows) == 0 {
		return nil, answer.Errorf(answer.NotFound, "%s is not published, or not for you", n.Path)
	}
	dir, err := a.directory()
	if err != nil {
		return nil, err
	}
	d, err := a.loads.Start(rows, nil)
	if err != nil {
		return nil, err
	}
	return Started{d.Progress(), dir + filepath.FromSlash(NameOf(user, path))}, nil
}

// pollWait is how long a request for a download's progress waits for its end.
const pollWait = 500 * time.Millisecond

func (a *App) getDownload(r *http.Request) (any, error) {
	d, err := a.loads.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if r.URL.Query().Get("wait") != "" {
		late := time.NewTimer(pollWait)
		defer late.Stop()
		select {
		case <-d.Ended():
		case <-late.C:
		case <-r.Context().Done():
		}
	}
	return d.Progress(), nil
}

func (a *App) deleteDownload(r *http.Request) (any, error) {
	d, err := a.loads.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d.Stop()
	return d.Progress(), nil
}
