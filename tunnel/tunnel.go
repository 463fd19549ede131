// Package tunnel is the wire between an agent and a hub: the control session, the relayed paths,
// and the messages on both.
//
//	agent                                                             hub
//	Dialer.Dial      TCP, through a proxy if there is one              listener
//	TLS 1.3          the agent's certificate, the hub's certificate    TLS 1.3
//	 ├─ ALPN ztm-control/1  Session: HTTP/2, requests as JSON, events, CONNECT streams as a fallback
//	 ├─ ALPN ztm-relay/1    Relay: one header block each way, then both drop TLS and the hub joins two sockets
//	 └─ ALPN ztm-join/1     Join: a device without a certificate asks for one, one header block each way
//
// What agents say to each other on a relayed path is package seal's, and the hub does not link it.
package tunnel

import (
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// ALPN protocols of a connection to a hub; identity.JoinProto is the third. The number is the
// version of what is said there: docs/protocol.md, section 9.
const (
	ControlProto = "ztm-control/1" // an agent's session with its hub: HTTP/2
	RelayProto   = "ztm-relay/1"   // an end of a relayed path
)

// Paths of the hub's control API.
const (
	PathEndpoints = "/v1/endpoints" // GET: directory; PUT /{id}: own record; DELETE /{id}: leave
	PathEvents    = "/v1/events"    // GET: the events stream; its life is what "online" means
	PathTrust     = "/v1/trust"     // GET, POST: the signed trust list; GET /{sum}: one that a fork event names
	PathTickets   = "/v1/tickets"   // DELETE /{ticket}: the endpoint that a dial-back is for will not answer it
	PathHub       = "/v1/hub"       // GET: HubStatus; also the liveness probe
	PathSign      = "/v1/sign"      // POST /{request}: a CA holder's answer to a sign event
	PathTokens    = "/v1/tokens"    // GET, DELETE /{nonce}: for root, how often this hub has redeemed a token; revokes it
	PathRenew     = "/v1/renew"     // POST: a hub that keeps the CA key renews the caller's certificate
)

// Limits on what either side reads from the other, in bytes.
const (
	MaxBody  = 1 << 20 // a request or one page of an answer
	MaxTrust = 4 << 20 // a trust list
	MaxEvent = 64 << 10
)

// After so much silence on a control session, either end sends a PING: so is a dead hub or a dead
// agent found, and a middlebox kept from forgetting the connection. An agent that has several hubs
// needs that of one of them soon. On the others it asks for less, with FieldIdle of GET PathEvents.
const (
	LeadIdle  = 45 * time.Second
	SpareIdle = 120 * time.Second // the most that a hub grants

	FieldIdle = "idle" // in seconds
)

// PageSize is the most endpoints one page of the directory holds.
const PageSize = 200

// Entry is one endpoint of the directory: the record, signed by the endpoint, and what the hub adds
// to it.
type Entry struct {
	Record  []byte           `json:"record"`            // identity.SignRecord
	Address string           `json:"address,omitempty"` // where the hub sees it
	Online  bool             `json:"online"`
	Seen    unixtime.Seconds `json:"seen"` // of the last contact

	// Hubs are those that it is attached to, as far as this hub knows: a hint where to ask for a
	// path.
	Hubs []identity.ID `json:"hubs,omitempty"`
}

// Page is a part of the directory.
type Page struct {
	Entries []Entry `json:"entries"`
	More    bool    `json:"more,omitempty"`
}

// HubStatus is what a hub says of itself.
type HubStatus struct {
	ID         identity.ID      `json:"id"`
	Version    string           `json:"version"`
	Since      time.Time        `json:"since"`
	Names      []string         `json:"names"` // host:port under which agents reach it
	Agents     int              `json:"agents"`
	Relays     int              `json:"relays"` // paths between agents
	MaxAgents  int              `json:"maxAgents"`
	KeepsCA    bool             `json:"keepsCA,omitempty"`
	Shared     bool             `json:"shared,omitempty"` // it decides about tokens with other hubs, in a store
	Trust      uint64           `json:"trust"`
	Links      int              `json:"links"`                // other hubs that it is linked with
	ClientAddr string           `json:"clientAddr,omitempty"` // where it sees the caller
	Time       unixtime.Seconds `json:"time,omitempty"`       // by its clock
	Note       string           `json:"note,omitempty"`       // what people should know of it
}

// Event is one message of the events stream, a JSON object on a line of its own. Unknown types are
// skipped.
type Event struct {
	Type EventType `json:"type"`

	// dial-back: open the other end of a path with Ticket, for Peer.
	Ticket string      `json:"ticket,omitempty"`
	Peer   identity.ID `json:"peer,omitempty"`
	User   string      `json:"user,omitempty"` // of Peer; the hub's word, by which places are divided

	// trust: the hub has a list of this version and sum (identity.Trust.Sum); fetch it. fork: the
	// hub was brought another list, of this sum, which has evictions that its own lacks.
	Version uint64 `json:"version,omitempty"`
	Sum     string `json:"sum,omitempty"`

	// sign: answer with POST PathSign/Request.
	Request string       `json:"request,omitempty"`
	Sign    *SignRequest `json:"sign,omitempty"`

	Within int64 `json:"within,omitempty"` // move: attach elsewhere within so many milliseconds
}

// EventType says what an event is about.
type EventType string

// The events.
const (
	EventReady    EventType = "ready"     // the stream stands: the endpoint is online
	EventDialBack EventType = "dial-back" // a peer asks for a path
	EventTrust    EventType = "trust"     // the trust list changed
	EventFork     EventType = "fork"      // to holders of the CA key: two trust lists are to be united
	EventSign     EventType = "sign"      // something waits for the CA key
	EventHubs     EventType = "hubs"      // the hubs of the mesh changed; fetch PathHubs
	EventMove     EventType = "move"      // this hub is about to end: attach elsewhere, and keep flows
	EventPing     EventType = "ping"      // nothing; keeps middleboxes from forgetting the connection
)

// SignRequest is what a hub passes on to a holder of the CA key. Exactly one of Join and Hub is
// set.
type SignRequest struct {
	Join *JoinRequest `json:"join,omitempty"`
	Name *NameCheck   `json:"name,omitempty"` // with Join: what the hub knows of the name; nil: it has not looked
	Hub  bool         `json:"hub,omitempty"`  // a hub asks for a new certificate for its own key
	Of   []byte       `json:"of,omitempty"`   // with Hub: its certificate (DER), where another hub passes the request on
}

// NameCheck is what a hub's directory says of the name that a joining device wants. It is for the
// holder of the CA key, which answers the device only after it has checked the token: the directory
// is not for everybody.
type NameCheck struct {
	Taken   *answer.Error `json:"taken,omitempty"`   // another endpoint has the name
	KeptFor string        `json:"keptFor,omitempty"` // the user for whom it is kept; "": nobody
	FreeFor string        `json:"freeFor,omitempty"` // with Taken: the user whose device has it, and may be replaced
}

// Check returns the error for a device of a user: nil if it may have the name.
func (c *NameCheck) Check(name, user string) error {
	switch {
	case c.Taken != nil && (c.FreeFor == "" || c.FreeFor != user):
		return c.Taken
	case c.KeptFor != "" && c.KeptFor != user:
		return answer.Errorf(answer.Conflict, "endpoint name %s was one of user %s, and is kept for them", name, c.KeptFor)
	}
	return nil
}

// JoinRequest is a device's wish to become a member by a one-time token.
type JoinRequest struct {
	Key   []byte         `json:"key"` // raw Ed25519 public key
	Name  string         `json:"name"`
	Proof identity.Proof `json:"proof"`

	// Replace takes the name from another device of the same user that is online.
	Replace bool `json:"replace,omitempty"`
}

// TokenUse is what a hub that redeems tokens knows of one.
type TokenUse struct {
	Used    int              `json:"used"`
	Revoked bool             `json:"revoked,omitempty"`
	Expires unixtime.Seconds `json:"expires,omitempty"` // in a request to revoke it
}

// SignAnswer is a CA holder's answer: a certificate (DER) or a refusal.
type SignAnswer struct {
	Certificate []byte        `json:"certificate,omitempty"`
	Refusal     *answer.Error `json:"refusal,omitempty"`
}
