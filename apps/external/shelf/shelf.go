package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ztm/apps/external/contract"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
	"ztm/tunnel/unixtime"
)

// Limits of what a program does with its files.
const (
	maxFile    = 1 << 30 // bytes of one that it publishes
	maxChange  = 64 << 10
	maxWatched = 1024             // bytes of the prefix that it watches
	watchTaken = 30 * time.Second // for the program to take a line
	watchEvery = 5 * time.Second  // how often the cloud is asked for news, while somebody watches
)

// Shelf is the files of one app at one endpoint. All fields have to be set.
type Shelf struct {
	Cloud Cloud
	ID    string                                            // of the app, "PROVIDER/NAME"
	User  string                                            // of this endpoint
	Users func(context.Context) (names []string, err error) // who have the app, this user among them
	Room  *Room                                             // of the app at this endpoint
	Bytes int64                                             // that all of its files that are here may have
	Files int                                               // that may be here
}

// File is a file as a program sees it.
type File struct {
	User  string `json:"user"` // who published it
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	Time  string `json:"time"`  // of its last change, as in RFC 3339
	State string `json:"state"` // as `ztm cloud ls` shows it
	Hash  string `json:"hash,omitempty"`
}

// Serve answers a request for "/v1/files/...", "/v1/readers/..." or "/v1/watch":
//
//	GET    /v1/files/                 []File of all users that this one may read
//	GET    /v1/files/USER/PATH        the bytes; they are fetched first
//	PUT    /v1/files/PATH             the body becomes a file of this user
//	DELETE /v1/files/PATH             it is published no longer, and goes
//	PATCH  /v1/readers/PATH           {"all": BOOL, "add": [USER], "remove": [USER]}
//	GET    /v1/watch[?prefix=PREFIX]  a line of JSON for each change: a list of [File], the first at once
func (s *Shelf) Serve(w http.ResponseWriter, r *http.Request) (any, error) {
	kind, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	switch {
	case kind == "watch" && r.Method == http.MethodGet:
		return nil, s.watch(w, r, r.URL.Query().Get("prefix"))
	case kind == "files" && path == "" && r.Method == http.MethodGet:
		return s.list(r.Context())
	case kind == "files" && r.Method == http.MethodGet:
		return nil, s.get(w, r, path)
	case kind == "files" && r.Method == http.MethodPut:
		return nil, s.put(r, path)
	case kind == "files" && r.Method == http.MethodDelete:
		return nil, s.erase(r.Context(), path)
	case kind == "readers" && r.Method == http.MethodPatch:
		return nil, s.share(r, path)
	}
	return nil, answer.Errorf(answer.NotFound, "there is no %s %.100q", r.Method, r.URL.Path)
}

// tree is where the app's files of a user are.
func (s *Shelf) tree(user string) string { return "/users/" + user + "/" + s.own() }

// own is where they are in the tree of the user.
func (s *Shelf) own() string { return "app-data/" + s.ID }

// within checks that a path of a program leads below the directory of its app.
func within(path string) error {
	if path == "" {
		return answer.Errorf(answer.BadRequest, "the file has no name")
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\\\x00") {
			return answer.Errorf(answer.BadRequest, "the path %.100q leads elsewhere", path)
		}
	}
	return nil
}

// list lists the files of all users who have the app, after the other endpoints were asked for news.
func (s *Shelf) list(ctx context.Context) ([]File, error) { return s.listed(ctx, true) }

// listed lists the files of all users who have the app.
func (s *Shelf) listed(ctx context.Context, ask bool) ([]File, error) {
	users, err := s.Users(ctx)
	if err != nil {
		return nil, err
	}
	all := []File{}
	for i, user := range users {
		q := url.Values{"path": {s.tree(user)}}
		if i > 0 || !ask {
			q.Set("offline", "1") // for the first the cloud has asked all other endpoints
		}
		var files []File
		if err := s.Cloud.Call(ctx, http.MethodGet, App+"/files?"+q.Encode(), nil, &files); err != nil {
			return nil, err
		}
		for _, f := range files {
			if path, ok := strings.CutPrefix(f.Path, s.tree(user)+"/"); ok {
				f.User, f.Path = user, path
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// get gives a file of a user, fetched from who has it.
func (s *Shelf) get(w http.ResponseWriter, r *http.Request, path string) error {
	user, path, _ := strings.Cut(path, "/")
	if err := errors.Join(within(user), within(path)); err != nil {
		return answer.Errorf(answer.BadRequest, "want /v1/files/USER/PATH: %v", err)
	}
	file := s.tree(user) + "/" + path
	release, err := s.place(r.Context(), user, path, -1)
	if err != nil {
		return err
	}
	defer release()
	if err := Fetch(r.Context(), s.Cloud, file, func(Fetching) {}); err != nil {
		return err
	}
	c, err := Read(r.Context(), s.Cloud, file)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(r.Context(), func() { c.Close() })()
	w.Header().Set("Content-Type", "application/octet-stream")
	contract.CopyAnswer(w, c)
	return nil
}

// put publishes the body of a request.
func (s *Shelf) put(r *http.Request, path string) error {
	if err := within(path); err != nil {
		return err
	}
	if r.ContentLength < 0 || r.ContentLength > maxFile {
		return answer.Errorf(answer.BadRequest, "a file needs a Content-Length of at most %d bytes", int64(maxFile))
	}
	release, err := s.place(r.Context(), s.User, path, r.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	c, err := s.Cloud.Open(r.Context(), App+"/put", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(r.Context(), func() { c.Close() })()
	h := Head{Path: s.own() + "/" + path, Size: r.ContentLength, Time: unixtime.MillisOf(time.Now())}
	sent := make(chan error, 1)
	go func() { // ends with the flow
		err := h.Send(c, r.Body)
		if err == nil {
			err = splice.CloseWrite(c)
		}
		sent <- err
	}()
	if err := Results(c, 1); err != nil {
		c.Close()
		<-sent
		return err
	}
	return <-sent
}

// erase takes a file of this user back, here and for all who have no copy. What failed may be tried
// again: half of it may be done.
func (s *Shelf) erase(ctx context.Context, path string) error {
	if err := within(path); err != nil {
		return err
	}
	public := s.Cloud.Call(ctx, http.MethodPost, App+"/unpublish", map[string]any{"path": s.own() + "/" + path, "force": true}, nil)
	if public != nil && answer.CodeOf(public) != answer.NotFound {
		return public
	}
	var results []result
	err := s.Cloud.Call(ctx, http.MethodPost, App+"/erase?offline=1", map[string]any{"path": s.tree(s.User) + "/" + path, "force": true}, &results)
	if answer.CodeOf(err) == answer.NotFound {
		return public // this endpoint has no copy: nil if it was published
	}
	for _, r := range results {
		if r.Error != "" {
			return answer.Errorf(answer.Unavailable, "%s is published no longer, but is still here: %s", r.Path, r.Error)
		}
	}
	return err
}

// share changes who may read files of this user.
func (s *Shelf) share(r *http.Request, path string) error {
	if path = strings.TrimSuffix(path, "/"); path != "" {
		if err := within(path); err != nil {
			return err
		}
	}
	var c struct {
		Path   string   `json:"path"`
		All    *bool    `json:"all,omitempty"`
		Add    []string `json:"add,omitempty"`
		Remove []string `json:"remove,omitempty"`
	}
	if err := answer.Decode(r, maxChange, &c); err != nil {
		return err
	}
	c.Path = strings.TrimSuffix(s.own()+"/"+path, "/")
	return s.Cloud.Call(r.Context(), http.MethodPost, App+"/share", c, nil)
}

// watch tells the program of all changes below a prefix, until it hangs up.
func (s *Shelf) watch(w http.ResponseWriter, r *http.Request, prefix string) error {
	if len(prefix) > maxWatched {
		return answer.Errorf(answer.BadRequest, "the prefix is longer than %d bytes", maxWatched)
	}
	before, err := s.below(r.Context(), prefix)
	if err != nil {
		return err
	}
	out, lines := http.NewResponseController(w), json.NewEncoder(w)
	put := func(list []File) error {
		out.SetWriteDeadline(time.Now().Add(watchTaken))
		return errors.Join(lines.Encode(list), out.Flush())
	}
	if put(before) != nil {
		return nil
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
		}
		after, err := s.below(r.Context(), prefix)
		if err != nil {
			panic(http.ErrAbortHandler) // the program asks again
		}
		if changed := changes(before, after); len(changed) > 0 && put(changed) != nil {
			return nil
		}
		before = after
	}
}

// below lists the files whose paths begin with a prefix.
func (s *Shelf) below(ctx context.Context, prefix string) ([]File, error) {
	list, err := s.list(ctx)
	return slices.DeleteFunc(list, func(f File) bool { return !strings.HasPrefix(f.Path, prefix) }), err
}

// Gone is the state of a file that is published no longer.
const Gone = "gone"

// changes lists the files that are new, have changed, or are gone.
func changes(before, after []File) (changed []File) {
	type key struct{ user, path string }
	known := map[key]File{}
	for _, f := range before {
		known[key{f.User, f.Path}] = f
	}
	for _, f := range after {
		k := key{f.User, f.Path}
		if old, ok := known[k]; !ok || old != f {
			changed = append(changed, f)
		}
		delete(known, k)
	}
	for _, f := range before {
		if old, ok := known[key{f.User, f.Path}]; ok {
			old.State = Gone
			changed = append(changed, old)
		}
	}
	return changed
}
