// Package kubetest is a small API server for tests. It keeps objects of any kind in memory and
// obeys the rules of list and watch: pages, versions, bookmarks, versions that are too old, failures
// in the middle of a stream.
//
//	GET     a collection, with watch=1 or without; an object
//	POST    creates: 409 if it is there
//	PATCH   server-side apply: what is the same changes nothing; of an object, or of its status
//	DELETE  with preconditions
//
// Tests change it by Put and Delete, and make it fail by Fail, Compact and Break.
package kubetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Object is an object as JSON has it.
type Object = map[string]any

// Server is an API server. The zero value is empty and lets everybody in.
type Server struct {
	mu       sync.Mutex
	version  int
	oldest   int // watches from before this are too old
	objects  map[string]Object
	changes  []change
	changed  chan struct{} // closed and replaced at each change
	broken   chan struct{} // closed and replaced by Break
	fail     func(*http.Request) *Failure
	requests []string
}

// change is one change of an object.
type change struct {
	version int
	kind    string // ADDED, MODIFIED, DELETED
	path    string
	object  Object
}

// Failure is an answer instead of the right one.
type Failure struct {
	Code   int
	Header http.Header
	Body   string // "" is a Status
	Hang   bool   // after the body, until the client goes
}

// Put creates or replaces the object at a path such as "/api/v1/namespaces/shop/services/web". What
// is missing of its metadata is filled in.
func (s *Server) Put(path string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(path, o)
}

// PutJSON is Put of an object that is written as JSON.
func (s *Server) PutJSON(path, text string) {
	var o Object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic("kubetest: " + err.Error())
	}
	s.Put(path, o)
}

func (s *Server) putLocked(path string, o Object) Object {
	s.prepareLocked()
	old := s.objects[path]
	o = maps.Clone(o)
	meta, _ := o["metadata"].(Object)
	meta = maps.Clone(meta)
	if meta == nil {
		meta = Object{}
	}
	_, namespace, name := split(path)
	meta["name"], meta["namespace"] = name, namespace
	for _, field := range []string{"uid", "creationTimestamp", "resourceVersion"} {
		if oldMeta, ok := old["metadata"].(Object); ok && meta[field] == nil {
			meta[field] = oldMeta[field]
		}
	}
	o["metadata"] = meta
	if status := old["status"]; status != nil && o["status"] == nil {
		o["status"] = status // it is written by others
	}
	if old != nil && reflect.DeepEqual(old, o) {
		return old
	}
	s.version++
	if meta["uid"] == nil {
		meta["uid"] = fmt.Sprintf("uid-%d", s.version)
	}
	if meta["creationTimestamp"] == nil {
		meta["creationTimestamp"] = time.Unix(1_700_000_000+int64(s.version), 0).UTC().Format(time.RFC3339)
	}
	meta["resourceVersion"] = strconv.Itoa(s.version)
	s.objects[path] = o
	s.noteLocked(change{s.version, map[bool]string{true: "ADDED", false: "MODIFIED"}[old == nil], path, o})
	return o
}

// Delete removes the object at a path, if it is there.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteLocked(path)
}

func (s *Server) deleteLocked(path string) {
	s.prepareLocked()
	if o := s.objects[path]; o != nil {
		delete(s.objects, path)
		s.version++
		o = maps.Clone(o)
		meta := maps.Clone(o["metadata"].(Object))
		meta["resourceVersion"] = strconv.Itoa(s.version)
		o["metadata"] = meta
		s.noteLocked(change{s.version, "DELETED", path, o})
	}
}

func (s *Server) prepareLocked() {
	if s.objects == nil {
		s.objects, s.changed, s.broken, s.version, s.oldest = map[string]Object{}, make(chan struct{}), make(chan struct{}), 100, 100
	}
}

func (s *Server) noteLocked(c change) {
	s.changes = append(s.changes, c)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Get returns the object at a path, nil if there is none.
func (s *Server) Get(path string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// Below returns the objects of a collection, by path.
func (s *Server) Below(collection string) map[string]Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Object{}
	for path, o := range s.objects {
		if in(collection, path) {
			out[path] = o
		}
	}
	return out
}

// Compact makes all versions until now too old to watch from.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepareLocked()
	s.version++
	s.oldest, s.changes = s.version, nil
}

// Break ends all watches as a lost connection does, in the middle of a line.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepareLocked()
	close(s.broken)
	s.broken = make(chan struct{})
}

// Fail makes the server answer what f returns, as long as that is not nil.
func (s *Server) Fail(f func(*http.Request) *Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Requests returns what was asked so far: method, path and query.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP answers as an API server does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.prepareLocked()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if f := fail(r); f != nil {
			f.send(w)
			if f.Hang {
				stream{w}.flush()
				<-r.Context().Done()
			}
			return
		}
	}
	_, _, name := split(r.URL.Path)
	switch q := r.URL.Query(); {
	case r.Method == http.MethodGet && q.Get("watch") != "":
		s.watch(w, r)
	case r.Method == http.MethodGet && name == "":
		s.list(w, r.URL.Path, q)
	default:
		s.one(w, r)
	}
}

func (f *Failure) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), f.Header)
	body := f.Body
	if body == "" {
		body = status(f.Code, http.StatusText(f.Code))
	}
	w.WriteHeader(f.Code)
	io.WriteString(w, body)
}

func status(code int, message string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`, message, http.StatusText(code), code)
}

// one serves a request for a single object.
func (s *Server) one(w http.ResponseWriter, r *http.Request) {
	var in Object
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil && err != io.EOF {
		(&Failure{Code: http.StatusBadRequest}).send(w)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	if r.Method == http.MethodPost {
		meta, _ := in["metadata"].(Object)
		path = fmt.Sprint(path, "/", meta["name"])
	}
	if of, ok := strings.CutSuffix(path, "/status"); ok && r.Method == http.MethodPatch && s.objects[of] != nil {
		changed := maps.Clone(s.objects[of])
		changed["status"] = in["status"]
		path, in = of, changed
	}
	old := s.objects[path]
	switch {
	case r.Method == http.MethodPost && old != nil:
		(&Failure{Code: http.StatusConflict}).send(w)
	case r.Method == http.MethodPost, r.Method == http.MethodPatch:
		send(w, s.putLocked(path, in))
	case old == nil:
		(&Failure{Code: http.StatusNotFound}).send(w)
	case r.Method == http.MethodDelete && !permitted(in, old):
		(&Failure{Code: http.StatusConflict}).send(w)
	case r.Method == http.MethodDelete:
		s.deleteLocked(path)
		send(w, old)
	default:
		send(w, old)
	}
}

// permitted reports whether an object is the one that a deletion means.
func permitted(options, old Object) bool {
	wanted, _ := options["preconditions"].(Object)
	meta := old["metadata"].(Object)
	for field, value := range wanted {
		if meta[field] != value {
			return false
		}
	}
	return true
}

func send(w http.ResponseWriter, o Object) {
	b, err := json.Marshal(o)
	if err != nil {
		panic("kubetest: " + err.Error())
	}
	w.Write(b)
}

// list answers with the objects of a collection, by path. A continue token is the next path.
func (s *Server) list(w http.ResponseWriter, collection string, q url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, _ := strconv.Atoi(q.Get("limit"))
	items, more := []Object{}, ""
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		if !in(collection, path) || path < q.Get("continue") {
			continue
		}
		if limit > 0 && len(items) == limit {
			more = path
			break
		}
		items = append(items, s.objects[path])
	}
	send(w, Object{"kind": "List", "metadata": Object{"resourceVersion": strconv.Itoa(s.version), "continue": more}, "items": items})
}

// watch streams the changes since a version, until the client's timeout or Break.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, err := strconv.Atoi(q.Get("resourceVersion"))
	seconds, _ := strconv.Atoi(q.Get("timeoutSeconds"))
	if err != nil {
		(&Failure{Code: http.StatusBadRequest}).send(w)
		return
	}
	end := time.NewTimer(time.Duration(cmp.Or(seconds, 3600)) * time.Second)
	defer end.Stop()
	bookmark := time.NewTicker(time.Minute)
	defer bookmark.Stop()
	s.mu.Lock()
	broken := s.broken
	old := from < s.oldest
	s.mu.Unlock()
	out := stream{w}
	if old {
		out.send("ERROR", json.RawMessage(status(http.StatusGone, "too old resource version")))
		return
	}
	out.flush()
	for {
		s.mu.Lock()
		changed, version, news := s.changed, s.version, s.since(from, r.URL.Path)
		s.mu.Unlock()
		for _, c := range news {
			out.send(c.kind, c.object)
		}
		from = max(from, version)
		select {
		case <-changed:
		case <-bookmark.C:
			out.send("BOOKMARK", Object{"metadata": Object{"resourceVersion": strconv.Itoa(from)}})
		case <-end.C:
			return
		case <-broken:
			io.WriteString(w, `{"type":"ADDED","object":{"metadata":{"na`)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// since returns the changes of a collection after a version. The caller holds mu.
func (s *Server) since(version int, collection string) (news []change) {
	for _, c := range s.changes {
		if c.version > version && in(collection, c.path) {
			news = append(news, c)
		}
	}
	return news
}

// stream is the answer to a watch.
type stream struct{ w http.ResponseWriter }

func (s stream) send(kind string, object any) {
	b, err := json.Marshal(Object{"type": kind, "object": object})
	if err != nil {
		panic("kubetest: " + err.Error())
	}
	s.w.Write(append(b, '\n'))
	s.flush()
}

func (s stream) flush() {
	if f, ok := s.w.(http.Flusher); ok {
		f.Flush()
	}
}

// split takes a path apart: "/api/v1/namespaces/shop/services/web" is the collection
// "/api/v1/services", the namespace "shop" and the name "web".
func split(path string) (collection, namespace, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	group := 2
	if parts[0] == "apis" {
		group = 3
	}
	group = min(group, len(parts))
	rest := parts[group:]
	if len(rest) >= 3 && rest[0] == "namespaces" {
		namespace, rest = rest[1], rest[2:]
	}
	if len(rest) > 1 {
		name = rest[1]
	}
	if len(rest) > 0 {
		collection = "/" + strings.Join(append(slices.Clone(parts[:group]), rest[0]), "/")
	}
	return collection, namespace, name
}

// in reports whether a collection, of all namespaces or of one, has the object at a path.
func in(collection, path string) bool {
	c, namespace, _ := split(collection)
	of, its, name := split(path)
	return name != "" && c == of && (namespace == "" || namespace == its)
}
