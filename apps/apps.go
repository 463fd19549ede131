// Package apps is what an app may ask of the mesh, and what the mesh asks of an app.
//
// An app is an HTTP-like service of an endpoint: a peer opens a flow to a path of it, and the app
// accepts or refuses. The way of one flow:
//
//	Mesh.Open (entrance) -> sealed session -> App.Serve (exit) -> Flow.Accept -> a net.Conn on both sides
//
// An app never sees a certificate, a path or the hub. It sees the verified [Peer] of each flow
// and must decide, for every flow, whether that peer may have what it asks for: nothing is allowed
// unless the app allows it.
package apps

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Endpoint is one device in the mesh, as its signed record and the hub's directory describe it. Its
// slices are shared: read them.
type Endpoint struct {
	ID      identity.ID `json:"id"`
	Name    string      `json:"name"`
	User    string      `json:"user"`
	Labels  []string    `json:"labels,omitempty"`
	Offers  []string    `json:"offers,omitempty"` // what its apps offer, for example "tunnel/tcp/web"
	Version string      `json:"version,omitempty"`
	Signer  bool        `json:"signer,omitempty"`  // holds the mesh's CA key
	Address string      `json:"address,omitempty"` // where the hub sees it; the hub's word, not the endpoint's
	Online  bool        `json:"online"`            // the hub's word, not the endpoint's
	Unknown bool        `json:"unknown,omitempty"` // no hub answers: nobody can say whether it is online
	Local   bool        `json:"local,omitempty"`   // is the endpoint of this agent
	Seen    time.Time   `json:"seen,omitzero"`     // the last contact with the hub; the hub's word

	// Admitted is when the user was invited for this endpoint, as its certificate says; zero where
	// it is not known.
	Admitted time.Time `json:"admitted,omitzero"`
}

// Peer is the endpoint at the other end of a flow. It comes from the verified leaf certificate of
// the sealed session and from nowhere else, and it is what authorisation is decided on.
//
// A user name can be given to another person after an eviction, and an endpoint can join again as
// another user. What an app keeps for a peer beyond a flow belongs to one membership: compare all
// three fields, as == does.
type Peer struct {
	ID       identity.ID      `json:"id"`
	User     string           `json:"user"`
	Admitted unixtime.Seconds `json:"admitted,omitempty"` // when the user was invited; all renewals keep it
}

// Filter narrows a listing of endpoints. The zero value matches every endpoint.
type Filter struct {
	Name    string // exact name
	User    string // exact user
	Offer   string // entry of Endpoint.Offers, or a name that one of them stands for, see [offer.Has]
	Keyword string // substring of the name or of a label
	Online  bool   // only endpoints that are online
	Limit   int    // at most so many; zero means all
	Offset  int    // skip so many
}

// Mesh is one mesh as an app sees it. All methods may be called from any goroutine.
type Mesh interface {
	// Name returns the name under which this agent joined the mesh.
	Name() string

	// Self returns this endpoint.
	Self() Endpoint

	// Endpoints lists endpoints, sorted by name. Every record was verified: its certificate by the
	// mesh CA, its content by the endpoint's key. What is missing may be missing because the hub
	// withheld it.
	Endpoints(ctx context.Context, f Filter) ([]Endpoint, error)

	// Open opens a flow to the path of an app at an endpoint: path begins with the app's name, for
	// example "tunnel/tcp/web". It returns when the exit has accepted; an exit that refuses gives
	// an *[answer.Error] with the exit's own reason. The connection carries bytes and half-closes
	// in both directions: it has CloseWrite() error, and Reset() error to end it so that the other
	// side sees a failure, not an end. It has no deadlines: the methods for them return an error.
	// Who waits too long closes the flow. ctx governs the opening alone; the flow lives until it is
	// closed.
	Open(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error)

	// OpenDatagrams is Open for datagrams: each Write sends one datagram of at most [MaxDatagram]
	// bytes, each Read returns one. Datagrams may be dropped, never merged, cut or reordered.
	OpenDatagrams(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error)
}

// MaxDatagram is the largest datagram a flow carries, in bytes: the largest UDP payload over IPv4
// (RFC 9298 section 5 allows 65,527; no socket sends more than this).
const MaxDatagram = 65507

// Flow is one request of a peer. Exactly one of Accept, AcceptDatagrams and Refuse is called, once.
type Flow interface {
	// Peer returns who asks.
	Peer() Peer

	// Path returns what is asked for, below the app's name and without a leading slash: "tcp/web".
	Path() string

	// Query returns the parameters of the request. They are the peer's words: never identity.
	Query() url.Values

	// Accept answers "yes". The connection half-closes as described at [Mesh.Open].
	Accept() (net.Conn, error)

	// AcceptDatagrams answers "yes" to a flow that was opened with [Mesh.OpenDatagrams].
	AcceptDatagrams() (net.Conn, error)

	// Refuse answers "no". The peer gets err as an *[answer.Error]; an error of another type
	// reaches it as [answer.Internal] without its text.
	Refuse(err error)
}

// App is one app in one mesh. It is made when the mesh is joined and lives until the mesh is left.
type App interface {
	// Name is the first segment of the paths that reach this app.
	Name() string

	// Run does the app's own work (listeners, timers) until ctx ends, then closes all of it and
	// returns. It is called once. An error is logged; the app then serves no more.
	Run(ctx context.Context) error

	// Serve handles one flow of a peer, in its own goroutine, until the flow is over. ctx ends when
	// the peer is evicted, its session is lost or the agent stops; connections of the flow are then
	// closed already.
	Serve(ctx context.Context, f Flow)

	// Left ends all that the app holds for the peers for which gone reports true, running or kept:
	// they were evicted, their certificate expired, or their endpoint joined again as somebody
	// else. The mesh has ended their flows already. Left returns soon; it may be called at any
	// time, from any goroutine, and again for the same peers.
	Left(gone func(Peer) bool)

	// API manages the app. Requests come from this agent's own user, here or (through the mesh) at
	// another of the user's endpoints, and from nobody else. Paths begin with a slash, the app's
	// name is cut off.
	API() http.Handler
}

// Host is what an app gets when it is made.
type Host struct {
	Mesh  Mesh
	State State

	// Notary signs what this app tells of itself, and verifies what the app told elsewhere.
	Notary Notary

	// Dir is where this app may keep files, absolute. It is made by whoever writes to it first. "" is
	// nowhere.
	Dir string

	Log *slog.Logger // keys: peer, user, flow, err; never a secret, never payload

	// Offer publishes what this app offers, replacing what it offered before: names without the
	// app's own, for example "tcp/web". They become "tunnel/tcp/web" in Endpoint.Offers.
	Offer func(names []string)

	// Names decides which peers a rule of this app means, see [CheckWho].
	Names Names

	// API returns the API of another app of the mesh at this endpoint, or nil where there is none; for
	// an app that stands between others and that one. It may be asked for once all apps are made.
	API func(app string) http.Handler

	// Cut ends all running flows, at this endpoint, of this app's peers for which the function says
	// so. Apps call it after access was taken away.
	Cut func(func(p Peer, path string) bool)
}

// Dir returns where an app of a mesh may keep files, below the data directory of an agent; where
// app is "", where all apps of the mesh do.
func Dir(data, mesh, app string) string {
	dir := filepath.Join(data, "apps", mesh, app)
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir // the directory that this process is in is gone
}

// State keeps what an app must remember, per app and mesh, in the agent's database. Values are
// JSON. A Save is on disk when it returns. Do not save on a timer or on the data path: flash wears
// out.
type State interface {
	// Load reads key into v and reports whether it was there.
	Load(key string, v any) (bool, error)
	Save(key string, v any) error
	// SaveAll saves many values at once: all of them or, on an error, none. A nil value deletes.
	SaveAll(values map[string]any) error
	Delete(key string) error
	// Keys lists all keys with the prefix, sorted.
	Keys(prefix string) ([]string, error)
}

// Notary signs statements that outlive the session that they are told in, and that others pass on.
// kind is a word of the app: what was signed as one kind is valid as no other, nor for another app.
// Its methods may be called from any goroutine.
type Notary interface {
	// Sign returns a signed document of what json.Marshal makes of payload, of at most
	// [identity.MaxStatement] bytes, and the certificate that goes beside it. Each later certificate
	// of this endpoint does as well.
	Sign(kind string, payload any) (doc, certificate []byte, err error)

	// Verify reads a document into payload, a pointer, and returns which endpoint signed it. It
	// refuses documents of evicted users. That the certificate has expired is no reason to.
	Verify(kind string, doc, certificate []byte, payload any) (Peer, error)
}
