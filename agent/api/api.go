// Package api is what the running agent and its clients have to agree on: where the agent listens,
// what the paths are, how answers look, and how a flow crosses the local connection. It serves
// nothing and asks nothing.
//
//	ztm (agent/console) -- Dial --> <data>/agent.sock -- HTTP/1.1, JSON --> agent
//	                         |----> <data>/agent.token, in each request
//
// Only the user who runs the agent gets an answer. Each request needs the token that the agent made
// when it started, which lies in a private file; on unix the socket is private as well. Who can
// connect is not the user yet: an app that runs as their account and may not read the file. Every
// request that changes something carries [ClientHeader], which a form in a browser cannot send. A failed answer
// has the status of its code and an [answer.Error] as its body. Times are RFC 3339, and missing
// where they are unknown or never; spans of time are milliseconds unless a field says otherwise.
package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"ztm/apps"
	"ztm/tunnel/identity"
)

// Headers of a request.
const (
	ClientHeader = "Ztm-Client" // "1" on every request that changes something
	TokenHeader  = "Ztm-Token"  // the token of [Dial]
)

// WarningHeader is in an answer for each sentence that a person should read beside it.
const WarningHeader = "Ztm-Warning"

// AddWarning adds a sentence to the header of an answer.
func AddWarning(h http.Header, text string) {
	h.Add(WarningHeader, strings.Join(strings.Fields(text), " "))
}

// The protocols that a flow upgrades to. The request is POST [FlowPath] with `Connection: Upgrade`;
// after the answer 101 the connection carries the flow: bytes as [Stream] has them, or datagrams as
// [Datagrams] has them.
const (
	UpgradeFlow      = "ztm-stream"
	UpgradeDatagrams = "ztm-datagrams"
)

// Version says what a binary is: GET /api/version, and `ztm version --json`.
type Version struct {
	Tag      string   `json:"tag"`
	Commit   string   `json:"commit,omitempty"`
	Date     string   `json:"date,omitempty"` // of the build or of the commit, RFC 3339
	Go       string   `json:"go"`
	OS       string   `json:"os"`
	Arch     string   `json:"arch"`
	Features []string `json:"features"` // the apps and options that this binary was built with
}

// Mesh is a mesh that the agent has joined.
type Mesh struct {
	Name   string      `json:"name"`
	ID     identity.ID `json:"id"`
	Agent  Agent       `json:"agent"`
	Hubs   []string    `json:"hubs"` // host:port
	Status Status      `json:"status"`
	Error  string      `json:"error,omitempty"` // why it is not connected
	Signer bool        `json:"signer"`          // the agent holds the mesh's CA key
	Trust  uint64      `json:"trust"`           // version of the trust list
	CA     identity.ID `json:"ca"`              // of the CA that signs; certificates of others are to be renewed

	// Replaced is the ID of the endpoint of the same user that had the name until a join a moment
	// ago.
	Replaced identity.ID `json:"replaced,omitempty"`
}

// Agent is the agent as an endpoint of one mesh.
type Agent struct {
	ID       identity.ID `json:"id"`
	Name     string      `json:"name"`
	User     string      `json:"user"`
	Labels   []string    `json:"labels,omitempty"`
	NotAfter time.Time   `json:"notAfter,omitzero"` // end of its certificate
	Issuer   identity.ID `json:"issuer,omitempty"`  // of its certificate
}

// Status is the state of an agent's connection to a mesh.
type Status string

// The states of a connection.
const (
	Connected  Status = "connected"
	Connecting Status = "connecting"
	Failed     Status = "error" // with the reason in [Mesh.Error]; the agent keeps trying
)

// Join is the request that joins a mesh: POST [MeshPath].
type Join struct {
	Name   string          `json:"name"`   // of the endpoint
	Permit json.RawMessage `json:"permit"` // as the hub or `ztm invite` wrote it

	// Replace takes the name from another device of the same user that is online. From one that is
	// offline it is taken anyway.
	Replace bool `json:"replace,omitempty"`
}

// Invite is the request for a permit: POST [PermitPath]. Exactly one of the two is given.
type Invite struct {
	PublicKey string        `json:"publicKey,omitempty"` // PEM; the permit is for this key alone
	Expires   apps.Duration `json:"expires,omitempty"`   // the permit carries a token that lives so long

	// For a token.
	Uses      int    `json:"uses,omitempty"`      // how many devices may join with it; 0 is 1
	Ephemeral bool   `json:"ephemeral,omitempty"` // they go when they disconnect
	Approve   bool   `json:"approve,omitempty"`   // a person at the redeemer decides
	Redeemer  string `json:"redeemer,omitempty"`  // the ID of an endpoint of root, or RedeemerHub; "" chooses
}

// RedeemerHub is the redeemer of a token that the hub redeems, which keeps the CA key.
const RedeemerHub = "hub"

// Token is an open join token: GET [TokensPath]. It has no secret.
type Token struct {
	ID        string      `json:"id"`
	User      string      `json:"user"`
	Made      time.Time   `json:"made"`
	Until     time.Time   `json:"until"`
	Uses      int         `json:"uses"`
	Left      int         `json:"left"`                // of Uses
	Elsewhere bool        `json:"elsewhere,omitempty"` // Left is not known here: another endpoint redeems it
	Ephemeral bool        `json:"ephemeral,omitempty"`
	Approve   bool        `json:"approve,omitempty"`
	By        identity.ID `json:"by,omitempty"` // the endpoint that made it
	Redeemer  identity.ID `json:"redeemer"`     // the endpoint or hub that must be online when it is used

	ByName       string `json:"byName,omitempty"`
	RedeemerName string `json:"redeemerName,omitempty"`
}

// Approval is a device that waits until a person approves it: GET [ApprovalsPath]. Its answer is
// "approved" or "denied" once there is one.
type Approval struct {
	ID     identity.ID `json:"id"` // the hash of its key: compare it with what the device shows
	Name   string      `json:"name"`
	User   string      `json:"user"`
	Since  time.Time   `json:"since"`
	Until  time.Time   `json:"until"`
	Answer string      `json:"answer,omitempty"`
}

// Approve is the request that answers a device that waits: POST [ApprovalsPath].
type Approve struct {
	Name string `json:"name"` // or ID
	Deny bool   `json:"deny,omitempty"`
}

// InviteHub is the request for the permit of a hub: POST [HubPermitPath].
type InviteHub struct {
	PublicKey string   `json:"publicKey"`       // PEM, as ztm run hub --identity writes it
	Names     []string `json:"names,omitempty"` // host:port under which agents are to reach it
}

// Evicted is the answer to an eviction: DELETE [EvictPath] or [EvictDevicePath]. A user that neither the directory nor this
// agent knows is not found, unless the query has force=true.
type Evicted struct {
	User      string      `json:"user,omitempty"`
	ID        identity.ID `json:"id,omitempty"`      // of an endpoint or a hub, if it alone was evicted
	Name      string      `json:"name,omitempty"`    // of the endpoint
	Version   uint64      `json:"version"`           // of the trust list that the mesh enforces from now on
	Endpoints int         `json:"endpoints"`         // of the user that the directory knew
	Already   bool        `json:"already,omitempty"` // it was evicted before and nothing new was to be done

	// Refused is why no hub has taken the trust list. It is in force here all the same, goes from
	// endpoint to endpoint, and is brought to the hubs again until one takes it. A hub that refuses
	// it may have been taken over.
	Refused string `json:"refused,omitempty"`
}

// Rotate is the request that replaces the mesh's CA: POST [CAPath]. The answer is the new root
// permit.
type Rotate struct {
	Grace apps.Duration `json:"grace"` // for which certificates of the old CA are accepted for; with 0 they are void at once
}

// User is a user of a mesh and their endpoints.
type User struct {
	Name      string    `json:"name"`
	Endpoints []string  `json:"endpoints"`         // names of those that are in the directory
	Devices   []Device  `json:"devices,omitempty"` // the same, and those that were admitted by the endpoint that is asked
	Invited   time.Time `json:"invited,omitzero"`  // until when a token is open that it has made
	Ends      time.Time `json:"ends,omitzero"`     // when their access ends, or has ended, by the policy
	Evicted   *Eviction `json:"evicted,omitempty"` // the last time; `ztm get user` sets it
}

// Device is how an endpoint came to be a member.
type Device struct {
	ID       identity.ID `json:"id"`
	Name     string      `json:"name"`              // "": not known
	Admitted time.Time   `json:"admitted,omitzero"` // when its user was invited for it
	By       string      `json:"by,omitempty"`      // the endpoint that admitted it; only that one knows
	Until    time.Time   `json:"until,omitzero"`    // end of its certificate, which renews itself
}

// Eviction is one of the trust list's: GET [EvictionsPath].
type Eviction struct {
	User     string      `json:"user,omitempty"` // or else
	ID       identity.ID `json:"id,omitempty"`   // of an endpoint or a hub
	Hub      bool        `json:"hub,omitempty"`
	Name     string      `json:"name,omitempty"`  // of the endpoint, when it was evicted
	Owner    string      `json:"owner,omitempty"` // its user
	Admitted time.Time   `json:"admitted"`        // what was admitted until then is void
	At       time.Time   `json:"at,omitzero"`
	By       identity.ID `json:"by,omitempty"`
	ByName   string      `json:"byName,omitempty"`
	Reason   string      `json:"reason,omitempty"`
}

// Hub is a hub of a mesh as the agent sees it.
type Hub struct {
	ID        identity.ID `json:"id,omitempty"`
	Address   string      `json:"address"` // host:port
	Status    HubStatus   `json:"status"`
	Connected bool        `json:"connected"`       // the agent's control session is there
	Error     string      `json:"error,omitempty"` // why it is Unreachable
	Names     []string    `json:"names,omitempty"` // host:port, as it says of itself, and other addresses that lead to it
	Zone      string      `json:"zone,omitempty"`  // as it says of itself
	Version   string      `json:"version,omitempty"`
	RTT       float64     `json:"rtt,omitempty"`  // milliseconds
	Agents    int         `json:"agents"`         // connected to it; the hub's word
	Relays    int         `json:"relays"`         // paths between agents that it relays now; the hub's word
	Standby   bool        `json:"standby"`        // a connection to it is ready for the agent's next path
	Fallbacks int64       `json:"fallbacks"`      // paths that had to be streams of the control session since the agent joined
	Since     time.Time   `json:"since,omitzero"` // when it began to run
	Note      string      `json:"note,omitempty"` // what people should know of it; the hub's word
}

// HubStatus is what a hub is to one agent. That an agent is not attached to a hub does not mean
// that the hub is down.
type HubStatus string

// The states of a hub.
const (
	Attached    HubStatus = "attached"    // the agent's control session is there
	HubStandby  HubStatus = "standby"     // it answers, and is not needed now
	Draining    HubStatus = "draining"    // it is about to end: agents go elsewhere
	Unreachable HubStatus = "unreachable" // it does not answer, with the reason in [Hub.Error]
)

// Endpoint is an endpoint in detail.
type Endpoint struct {
	apps.Endpoint
	Sessions int     `json:"sessions"`      // sealed sessions between the agent and it
	RTT      float64 `json:"rtt,omitempty"` // milliseconds
	Route    Route   `json:"route,omitzero"`
}

// Route is how flows with an endpoint go from where the agent is. The zero value is through a hub,
// with nothing that failed.
type Route struct {
	Direct  string    `json:"direct,omitempty"`  // LAN, IPv6 or punched; "": through a hub
	Address string    `json:"address,omitempty"` // of the endpoint, host:port
	Since   time.Time `json:"since,omitzero"`
	Why     string    `json:"why,omitempty"` // it is not direct

	// Datagrams is how datagrams go that have a path of their own, or why they have none; nil: as all
	// else.
	Datagrams *Route `json:"datagrams,omitempty"`
}

// String is a route for people.
func (r Route) String() string {
	switch {
	case r.Direct != "":
		return "direct (" + r.Direct + " " + r.Address + ")"
	case r.Why != "":
		return "relayed: " + r.Why
	}
	return "relayed"
}

// Resolved is the answer to POST [NamePath]: the one endpoint that has the name. The agent
// remembers the endpoint and its user at the first use of a name, as SSH does with the keys of
// hosts. If the name is of another user by now, or its user was evicted and somebody invited under
// that name again, the answer is a conflict that says so, until the name is forgotten. If it is
// another endpoint of the same user, Was says which one it was, once.
type Resolved struct {
	apps.Endpoint
	Was *KnownName `json:"was,omitempty"`
}

// KnownName is what the agent remembers of an endpoint's name.
type KnownName struct {
	ID    identity.ID `json:"id"`
	User  string      `json:"user"`
	Since time.Time   `json:"since"` // when it was first used

	Admitted time.Time `json:"admitted,omitzero"` // see [apps.Endpoint]
}

// LogEntry is a line of an endpoint's recent log.
type LogEntry struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`

	// Attrs say what the line is about: "peer" and an ID, "err" and a text.
	Attrs map[string]string `json:"attrs,omitempty"`
}

// Stats counts what an endpoint has moved since its agent started, in bytes.
type Stats struct {
	Sent      uint64                    `json:"sent"`
	Received  uint64                    `json:"received"`
	Active    int                       `json:"active"`    // flows that are open now
	Offloaded int                       `json:"offloaded"` // of Active: in a connection of their own
	Peers     map[identity.ID]PeerStats `json:"peers"`
}

// PeerStats is the part of [Stats] that one peer has in it.
type PeerStats struct {
	Name      string `json:"name"`
	Sent      uint64 `json:"sent"`
	Received  uint64 `json:"received"`
	Active    int    `json:"active"`
	Offloaded int    `json:"offloaded"`
}

// Hop is one step of a ping, in the order in which they are passed.
type Hop struct {
	Type  string      `json:"type"` // "Endpoint" or "Hub"
	ID    identity.ID `json:"id"`
	Name  string      `json:"name"`
	RTT   float64     `json:"rtt"` // milliseconds from the agent; meaningless with an Error
	Error string      `json:"error,omitempty"`
	Route *Route      `json:"route,omitempty"` // of the last step
}

// Console is the request that lets a browser of this machine in: POST [ConsolePath]. DELETE shuts the
// console: all browsers are out, and its listener is closed.
type Console struct {
	ReadOnly bool `json:"readOnly,omitempty"` // it only looks
	Port     int  `json:"port,omitempty"`     // to listen on; 0 is the usual one, or the one that is open
}

// ConsoleState is the answer, and that to GET [ConsolePath].
type ConsoleState struct {
	URL      string `json:"url,omitempty"` // with a code that is good once, within a minute
	Port     int    `json:"port"`          // 0: it is shut
	Browsers int    `json:"browsers"`      // that were let in
	Waiting  int    `json:"waiting"`       // codes that are still good
}
