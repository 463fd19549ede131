package door

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/external/contract"
	"ztm/apps/external/manifest"
	"ztm/apps/external/shelf"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// AppField names, in a request of a program, the other app that it asks: "PROVIDER/NAME".
const AppField = "Ztm-App"

// Limits of what a program asks.
const (
	maxConfig = 64 << 10 // bytes
	maxOffers = 16
	maxAsked  = 64  // flows that it has opened
	maxUsers  = 100 // whose files it is shown
)

// offerRate is how often a program may change what it offers: each change is a new record of the
// endpoint, of which a hub takes few, and which goes to all who look.
var offerRate = limit.Rate{Burst: 10, PerSecond: 0.1}

// Config is what the door of a program to the agent needs. All fields have to be set.
type Config struct {
	ID       string // "PROVIDER/NAME"
	Mesh     apps.Mesh
	State    apps.State
	Log      *slog.Logger
	Manifest func() (manifest.Manifest, error)
	Offer    func(names []string) // what the app offers from now on, beside itself
	Cloud    shelf.Cloud
}

// Endpoint is another endpoint, as a program learns of it.
type Endpoint struct {
	ID     identity.ID `json:"id"`
	Name   string      `json:"name"`
	User   string      `json:"user"`
	Offers []string    `json:"offers,omitempty"` // of this app there
	Online bool        `json:"online"`
	Local  bool        `json:"local,omitempty"`
}

// Self is what a program learns of itself.
type Self struct {
	Endpoint
	Mesh    string `json:"mesh"`
	App     string `json:"app"` // "PROVIDER/NAME"
	Version string `json:"version"`
}

// out is the door of a program to the agent.
type out struct {
	Config
	asked   chan struct{}            // a place for each flow
	changes *limit.Buckets[struct{}] // of what it offers
	room    shelf.Room               // of its files in the cloud
}

// Out returns the door of a program to the agent:
//
//	GET      /v1/self                   Self
//	GET      /v1/endpoints              []Endpoint that have this app
//	GET      /v1/users                  names of the users of the mesh
//	POST     /v1/open?to=ID&path=PATH   Upgrade: ztm or ztm-datagram; a flow to the app there
//	any      /v1/at/ID/PATH             a request to the app there
//	GET, PUT /v1/config                 a JSON value that is kept
//	PUT      /v1/offers                 names, a JSON list: others see them at this endpoint
//	         /v1/files, readers, watch  see [shelf.Shelf.Serve]
//
// It is this app that is reached at another endpoint; the field [AppField] names another one, which
// the manifest has to name too. Others see this endpoint ask, as any request of it.
func Out(c Config) http.Handler {
	o := &out{Config: c, asked: make(chan struct{}, maxAsked), changes: limit.NewBuckets[struct{}](offerRate, 1)}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /v1/self": o.self, "GET /v1/endpoints": o.endpoints, "GET /v1/users": o.users,
		"GET /v1/config": o.config, "PUT /v1/config": o.setConfig, "PUT /v1/offers": o.setOffers,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			answer.Reply(w, o.Log, v, err)
		})
	}
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request) error{"POST /v1/open": o.open, "/v1/at/{id}/": o.at} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := o.place(func() error { return f(w, r) }); err != nil {
				answer.Fail(w, o.Log, err)
			}
		})
	}
	for _, pattern := range []string{"/v1/files/", "/v1/readers/", "GET /v1/watch"} {
		mux.HandleFunc(pattern, o.files)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer.Fail(w, o.Log, answer.Errorf(answer.NotFound, "there is no %.20q %.100q", r.Method, r.URL.Path))
	})
	return mux
}

// files answers what is about files in the cloud.
func (o *out) files(w http.ResponseWriter, r *http.Request) {
	m, err := o.Manifest()
	if err == nil && !m.Rights.Files {
		err = answer.Errorf(answer.Denied, "the manifest of %s does not ask for the right to files in the cloud", o.ID)
	}
	if err != nil {
		answer.Fail(w, o.Log, err)
		return
	}
	s := &shelf.Shelf{Cloud: o.Cloud, ID: o.ID, User: o.Mesh.Self().User, Users: o.usersOf,
		Room: &o.room, Bytes: m.Rights.DiskLimit(), Files: m.Rights.FileLimit()}
	err = o.place(func() error {
		v, err := s.Serve(w, r)
		if v != nil || r.Method != http.MethodGet && err == nil {
			answer.Reply(w, o.Log, v, err)
			return nil
		}
		return err
	})
	if err != nil {
		answer.Fail(w, o.Log, err)
	}
}

// usersOf lists who have this app, this user first.
func (o *out) usersOf(ctx context.Context) ([]string, error) {
	users := []string{o.Mesh.Self().User}
	list, err := o.Mesh.Endpoints(ctx, apps.Filter{Offer: "app/" + o.ID})
	for _, e := range list {
		if !slices.Contains(users, e.User) && len(users) < maxUsers {
			users = append(users, e.User)
		}
	}
	return users, err
}

// place runs something that opens a flow, if there is a place for one more.
func (o *out) place(f func() error) error {
	select {
	case o.asked <- struct{}{}:
		defer func() { <-o.asked }()
		return f()
	default:
		return answer.Errorf(answer.Limit, "the app has %d flows to others, which is its limit", maxAsked)
	}
}

// seen is an endpoint as a program learns of it.
func (o *out) seen(e apps.Endpoint) Endpoint {
	s := Endpoint{ID: e.ID, Name: e.Name, User: e.User, Online: e.Online || e.Local, Local: e.Local}
	for _, offer := range e.Offers {
		if own, ok := strings.CutPrefix(offer, "app/"+o.ID+"/"); ok {
			s.Offers = append(s.Offers, own)
		}
	}
	return s
}

func (o *out) self(*http.Request) (any, error) {
	m, err := o.Manifest()
	return Self{Endpoint: o.seen(o.Mesh.Self()), Mesh: o.Mesh.Name(), App: o.ID, Version: m.Version}, err
}

func (o *out) endpoints(r *http.Request) (any, error) {
	list, err := o.Mesh.Endpoints(r.Context(), apps.Filter{Offer: "app/" + o.ID})
	all := []Endpoint{}
	for _, e := range list {
		all = append(all, o.seen(e))
	}
	return all, err
}

func (o *out) users(r *http.Request) (any, error) {
	list, err := o.Mesh.Endpoints(r.Context(), apps.Filter{})
	all := []string{}
	for _, e := range list {
		all = append(all, e.User)
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

func (o *out) configKey() string { return "config/" + o.ID }

func (o *out) config(*http.Request) (any, error) {
	v := json.RawMessage("null")
	_, err := o.State.Load(o.configKey(), &v)
	return v, err
}

func (o *out) setConfig(r *http.Request) (any, error) {
	b, err := answer.Body(r, maxConfig)
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return nil, answer.Errorf(answer.BadRequest, "a configuration is a JSON value")
	}
	return nil, o.State.Save(o.configKey(), json.RawMessage(b))
}

func (o *out) setOffers(r *http.Request) (any, error) {
	var names []string
	if err := answer.Decode(r, maxConfig, &names); err != nil {
		return nil, err
	}
	if len(names) > maxOffers {
		return nil, answer.Errorf(answer.Limit, "an app offers no more than %d names", maxOffers)
	}
	for _, name := range names {
		if err := identity.CheckName(name); err != nil {
			return nil, answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	if !o.changes.Take(struct{}{}, time.Now()) {
		return nil, answer.Errorf(answer.Limit, "the app changes what it offers too often: ten times at once, and then every 10 s")
	}
	o.Offer(names)
	return nil, nil
}

// target returns which app a program asks, which it may.
func (o *out) target(r *http.Request) (string, error) {
	id := r.Header.Get(AppField)
	if id == "" || id == o.ID {
		return o.ID, nil
	}
	m, err := o.Manifest()
	if err != nil {
		return "", err
	}
	if !slices.Contains(m.Rights.Apps, id) {
		return "", answer.Errorf(answer.Denied, "the manifest of %s does not ask for the right to reach the app %.130q", o.ID, id)
	}
	return id, nil
}

// open opens a flow for a program.
func (o *out) open(w http.ResponseWriter, r *http.Request) error {
	id, err := o.target(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if _, err := contract.Target(q.Get("path"), nil); err != nil {
		return err
	}
	to, path, rest := identity.ID(q.Get("to")), q.Get("path"), url.Values{}
	for name, values := range q {
		if name != "to" && name != "path" {
			rest[name] = values
		}
	}
	// Who half-closes before the answer is there has ended the context of the request, not the flow.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), contract.AnswerTimeout)
	defer cancel()
	switch protocol := r.Header.Get("Upgrade"); protocol {
	case contract.Stream:
		c, err := o.Mesh.Open(ctx, to, "app/stream/"+id+"/"+path, rest)
		return join(w, r, c, err, protocol, func(ctx context.Context, flow, own net.Conn, in *bufio.Reader) {
			splice.Join(ctx, flow, contract.Buffered(own, in))
		})
	case contract.Datagrams:
		c, err := o.Mesh.OpenDatagrams(ctx, to, "app/datagram/"+id+"/"+path, rest)
		return join(w, r, c, err, protocol, func(ctx context.Context, flow, own net.Conn, in *bufio.Reader) {
			relayDatagrams(ctx, flow, own, in)
		})
	default:
		return answer.Errorf(answer.BadRequest, "a flow is opened with Upgrade: %s, or %s", contract.Stream, contract.Datagrams)
	}
}

// join gives a flow that was opened to the program. It lasts until either of the two ends it.
func join(w http.ResponseWriter, r *http.Request, flow net.Conn, err error, protocol string,
	relay func(ctx context.Context, flow, own net.Conn, in *bufio.Reader)) error {
	if err != nil {
		return err
	}
	defer flow.Close()
	own, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer own.Close()
	if _, err := own.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n")); err == nil {
		relay(context.WithoutCancel(r.Context()), flow, own, rw.Reader)
	}
	return nil
}

// at asks the app at another endpoint, once.
func (o *out) at(w http.ResponseWriter, r *http.Request) error {
	id, err := o.target(r)
	if err != nil {
		return err
	}
	to := r.PathValue("id")
	path, ok := strings.CutPrefix(r.RequestURI, "/v1/at/"+to)
	if !ok {
		return answer.Errorf(answer.BadRequest, "the path is not escaped as it should be")
	}
	if err := contract.CheckTarget(path); err != nil {
		return err
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	c, err := o.Mesh.Open(r.Context(), identity.ID(to), "app/http/"+id, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	asked := contract.Clean(r)
	asked.URL = u
	asked.Header.Del("Upgrade") // a flow is opened by /v1/open
	asked.Header.Del("Connection")
	return ask(w, r.Context(), c, asked)
}

// ask sends a request over a flow and passes the answer on. A flow has no deadlines: it is cut where
// nothing comes.
func ask(w http.ResponseWriter, ctx context.Context, c net.Conn, r *http.Request) error {
	defer context.AfterFunc(ctx, func() { splice.Abort(c) })()
	const timeout = 2 * contract.AnswerTimeout // the exit gives up before
	late := time.AfterFunc(timeout, func() { splice.Abort(c) })
	defer late.Stop()
	r.Body = &touching{ReadCloser: r.Body, touch: func() { late.Reset(timeout) }}
	go r.Write(c) // ends with the flow
	in, head := contract.Limited(c)
	resp, err := contract.Answer(in, head, r)
	if err != nil {
		return answer.Errorf(answer.Broken, "the app there does not answer")
	}
	defer resp.Body.Close()
	late.Stop()
	for name, values := range contract.CleanHeader(resp.Header) {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	contract.CopyAnswer(w, resp.Body)
	return nil
}

// touching is a body that says when it is read.
type touching struct {
	io.ReadCloser
	touch func()
}

func (t *touching) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if n > 0 {
		t.touch()
	}
	return n, err
}
