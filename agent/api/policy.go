package api

import (
	"fmt"
	"strings"
	"time"

	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// Policy is what an endpoint knows of the policy of its mesh: GET [EndpointPath] below "policy".
// Version is 0 where it knows of none.
type Policy struct {
	Version uint64      `json:"version"`
	Mode    string      `json:"mode"`             // see [policy.Enforce]
	Direct  string      `json:"direct,omitempty"` // how far devices may go without a hub, see [DirectChange]
	Issued  time.Time   `json:"issued,omitzero"`
	By      identity.ID `json:"by,omitempty"` // the CA that has signed it
	InForce bool        `json:"inForce"`      // else the endpoint has yet to get what concerns it
	Stale   bool        `json:"stale"`        // for so long that it lets nobody in by what it has
	Labels  []string    `json:"labels"`       // of the endpoint, those that give rights
	Unknown []string    `json:"unknown"`      // what rules here name and the policy has not

	// Unconfirmed are the endpoints that were online and have not confirmed this version, where it was
	// made. GET below "policy/unconfirmed" is the same, and waits some seconds for them.
	Unconfirmed []string `json:"unconfirmed,omitempty"`
}

// PolicySource is the whole policy with its version, at an endpoint that holds the CA key: GET below
// "policy/source", and PUT to replace it.
type PolicySource struct {
	Version uint64         `json:"version"` // 0: there is none; of a PUT, the version that it was made from
	Source  *policy.Source `json:"source"`
}

// Group is a group of users.
type Group struct {
	Name string   `json:"name"`
	Void []string `json:"void,omitempty"` // members who are in it no longer, as an eviction has ended that
	policy.Group
}

// GroupChange changes a group, and makes it if there is none: POST below "policy/groups".
type GroupChange struct {
	Add     []string       `json:"add,omitempty"`
	Remove  []string       `json:"remove,omitempty"`
	Until   time.Time      `json:"until,omitzero"`    // of those that are added; zero: without end
	Max     *apps.Duration `json:"max,omitempty"`     // how long a membership may last; 0: no limit
	Visible *string        `json:"visible,omitempty"` // see [policy.Group]
	Delete  bool           `json:"delete,omitempty"`
	Reason  string         `json:"reason,omitempty"` // for the record
}

// DirectChange sets how far all devices may go without a hub: POST below "policy/direct".
type DirectChange struct {
	Direct string `json:"direct"` // lan, off, or "" for as far as each wants
}

// String says what is changed, for the audit log.
func (c GroupChange) String() string {
	var out []string
	if c.Delete {
		out = append(out, "the group goes")
	}
	if len(c.Add) > 0 {
		out = append(out, "add "+strings.Join(c.Add, " ")+" until "+End(c.Until))
	}
	if len(c.Remove) > 0 {
		out = append(out, "remove "+strings.Join(c.Remove, " "))
	}
	if c.Max != nil {
		out = append(out, fmt.Sprintf("at most %v", time.Duration(*c.Max)))
	}
	if c.Reason != "" {
		out = append(out, "reason: "+c.Reason)
	}
	return strings.Join(out, "; ")
}

// End is an end for people; the zero time is none.
func End(t time.Time) string {
	if t.IsZero() {
		return "further notice"
	}
	return unixtime.Text(t)
}

// LabelChange sets the labels of an endpoint that give rights: POST below "policy/labels".
type LabelChange struct {
	Name   string      `json:"name"` // of the endpoint, which the policy pins to the ID
	ID     identity.ID `json:"id"`
	Add    []string    `json:"add,omitempty"`
	Remove []string    `json:"remove,omitempty"`
	Repin  bool        `json:"repin,omitempty"` // another endpoint has the name now, and that is right
}

// String says what is changed, for the audit log.
func (c LabelChange) String() string {
	out := []string{c.Name + " " + string(c.ID)}
	if len(c.Add) > 0 {
		out = append(out, "add "+strings.Join(c.Add, " "))
	}
	if len(c.Remove) > 0 {
		out = append(out, "remove "+strings.Join(c.Remove, " "))
	}
	return strings.Join(out, "; ")
}

// UserChange sets when the access of a user ends, on all of their devices: POST below
// "policy/users".
type UserChange struct {
	Until time.Time `json:"until"` // zero: it does not
}

// PolicyPath is where an endpoint has its policy.
func PolicyPath(mesh string, id identity.ID, below ...string) string {
	return EndpointPath(mesh, id, append([]string{"policy"}, below...)...)
}

// Access is one row of who can reach what: GET below "policy/who-can".
type Access struct {
	User   string    `json:"user"` // "*": everybody whose access has not ended
	App    string    `json:"app"`
	Target string    `json:"target,omitempty"`
	Allow  bool      `json:"allow"`
	From   string    `json:"from,omitempty"` // of which endpoints of theirs Allow speaks, in terms; "": all
	Rule   string    `json:"rule"`           // what lets them, or does not
	Until  time.Time `json:"until,omitzero"`
}

// To is what the row is about, as a grant has it: "tunnel/tcp/db", or "terminal" for all of an app.
func (a Access) To() string { return strings.TrimSuffix(a.App+"/"+a.Target, "/") }

// Rule is whom the rules of an app name for something: GET below "policy/rules". To is what a grant
// would have to give.
type Rule struct {
	To  string   `json:"to"`
	Who []string `json:"who"` // in terms
}

// WhoCan is the answer of an endpoint that was asked who can reach something there; GET below
// "policy/can?of=ID" asks endpoint ID what the one that is asked may reach there.
type WhoCan struct {
	Policy uint64   `json:"policy"` // the version in force
	Trust  uint64   `json:"trust"`
	Rows   []Access `json:"rows"`
	Also   []Access `json:"also"`            // who runs what they like at the endpoint, and so reaches what it does
	Bound  bool     `json:"bound,omitempty"` // the endpoint did not answer: these are whom the policy would let, and its own rules are not known
}
