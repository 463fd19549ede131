package tunnel

import (
	"bytes"
	"context"
	"net/http"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Several hubs serve one mesh. They are linked, tell each other who is attached to them, and pass a
// path on in one hop:
//
//	agent A           hub 1                           hub 2           agent B
//	                   ├─ link: ALPN ztm-hub/1 ────────┤
//	  ztm-relay/1 ─────┴─ hop:  ALPN ztm-hop/1 ────────┴───── ztm-relay/1
//
// A link is HTTP/2: the hub that dialled asks, the other one answers. So two hubs have two links,
// one each way. A hop is a connection of its own, used like a relay connection: one header block
// each way, then both hubs drop TLS.

// ALPN protocols between hubs. Whoever agrees on one of them must be a hub.
const (
	HubProto = identity.HubProto
	HopProto = identity.HopProto
)

// PathHubs is a path of the control API. GET: the hubs that this hub knows, as Hubs.
const PathHubs = "/v1/hubs"

// Paths of a link.
const (
	PathLinkEvents    = "/v1/link/events"    // POST: the asking hub's SignHubRecord; answers a stream of LinkEvent
	PathLinkTrust     = "/v1/link/trust"     // GET, POST: the signed trust list
	PathLinkEndpoints = "/v1/link/endpoints" // POST: Wanted; answers Records
	PathLinkSign      = "/v1/link/sign"      // POST /{id}: a SignRequest for an endpoint that is attached there; answers SignAnswer
)

// MaxHubs is the most hubs that a hub knows, and that an agent takes from a hub.
const MaxHubs = 64

// FieldAttach is the field of GET PathEvents with the agent's identity.SignAttach, in base64.
const FieldAttach = "attach"

// Fields of the header block of a hop. FieldAuthority is the endpoint that is wanted.
const (
	FieldOrigin = "origin" // ID of the endpoint that asks; for limits and dial-backs alone
	FieldUser   = "user"   // of that endpoint, the asking hub's word
	FieldHop    = "hop"    // "1": a hop goes no further
)

// HubEntry is one hub in the answer to GET PathHubs. Record is the hub's own word; the rest is what
// the answering hub sees of it.
type HubEntry struct {
	Record   []byte `json:"record"`             // identity.SignHubRecord
	Self     bool   `json:"self,omitempty"`     // it is the hub that answers
	Online   bool   `json:"online"`             // a link to it stands
	RTT      int64  `json:"rtt,omitempty"`      // of the link, in milliseconds
	Agents   int    `json:"agents"`             // attached to it
	Links    int    `json:"links"`              // hubs that it is linked with, as it says
	Draining bool   `json:"draining,omitempty"` // it is about to end: attach elsewhere
	Lag      int64  `json:"lag,omitempty"`      // milliseconds since it was heard last
	Refused  string `json:"refused,omitempty"`  // why there is no link
}

// Hubs is the answer to GET PathHubs.
type Hubs struct {
	Hubs []HubEntry `json:"hubs"`
}

// LinkEvent is one message of a link's events stream, a JSON object on a line of its own. Unknown
// types are skipped. A stream begins with LinkSnapshot and N times LinkUp, then LinkEnd: they
// replace all that was known of the sender.
type LinkEvent struct {
	Type LinkEventType `json:"type"`

	N int `json:"n,omitempty"` // snapshot: how many are up; ping: how many are attached

	// up, down, left
	ID       identity.ID     `json:"id,omitempty"`
	Since    unixtime.Millis `json:"since,omitempty"`    // up: as in Attach
	Instance string          `json:"instance,omitempty"` // up: of the agent's process, as in Attach
	Address  string          `json:"address,omitempty"`  // up: where the hub sees it
	Attach   []byte          `json:"attach,omitempty"`   // up: identity.SignAttach; none from an agent that does not sign
	Time     unixtime.Millis `json:"time,omitempty"`     // up: of the endpoint's record; left: of the record that is void
	Keep     bool            `json:"keep,omitempty"`     // left: its name is kept for its user

	Version uint64 `json:"version,omitempty"` // trust: there is a list of this version; fetch it
	Sum     string `json:"sum,omitempty"`     // trust: of the list, see identity.Head
	Links   int    `json:"links,omitempty"`   // ping: hubs that the sender is linked with
	Hub     []byte `json:"hub,omitempty"`     // hub: identity.SignHubRecord, of the sender or one it knows
}

// LinkEventType says what an event of a link is about.
type LinkEventType string

// The events of a link.
const (
	LinkSnapshot LinkEventType = "snapshot"
	LinkUp       LinkEventType = "up"     // an endpoint is attached, or its record has changed
	LinkDown     LinkEventType = "down"   // it is not attached any longer
	LinkLeft     LinkEventType = "left"   // it was removed from the directory
	LinkEnd      LinkEventType = "end"    // of the snapshot
	LinkTrust    LinkEventType = "trust"  // the trust list changed
	LinkHub      LinkEventType = "hub"    // the signed record of a hub
	LinkRecord   LinkEventType = "record" // an endpoint that is not attached has a record, which counts more than one that was told
	LinkPing     LinkEventType = "ping"   // each second
)

// Wanted are endpoints whose records a hub asks another for, at most PageSize of them.
type Wanted struct {
	IDs []identity.ID `json:"ids"`
}

// Records are records of endpoints as they signed them. Those that are not there are left out.
type Records struct {
	Records [][]byte `json:"records"`
}

// LinkEvents opens the events of a link, on a session with a hub, and gives each event to handle,
// one after the other, until the stream or ctx ends. own is the asking hub's signed record. It never
// returns nil.
func (s *Session) LinkEvents(ctx context.Context, own []byte, handle func(LinkEvent)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+PathLinkEvents, bytes.NewReader(own))
	if err != nil {
		return err
	}
	return follow(s, req, handle)
}

// Ask is [Session.Call] for a request that waits for somebody behind the hub: it takes as long as
// ctx lets it, and a hub that does not answer keeps its session.
func (s *Session) Ask(ctx context.Context, method, path string, in, out any) error {
	return s.call(ctx, method, path, nil, in, out)
}
