// Package audit is the audit log of an endpoint: one line for each flow that a peer opened here, at its
// end, and one for each administrative act.
//
//	agent/peers: a flow ends   ─┐
//	agent: its own user changes ┴> Log.Add -> bound -> merge of repeats -> chain of hashes -> ring, shared by user
//
// The endpoint that decides writes the line; what a peer says of itself is no part of it. A line
// never holds payload, commands or secrets. The ring is in memory: nothing is written to a disk.
package audit

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Event says what a line is about.
type Event string

// The events. Those of flows come first; the others are administrative.
const (
	Flow     Event = "flow"     // a flow that was accepted has ended
	Opened   Event = "opened"   // a terminal or a script was started; its end has a line as well
	Running  Event = "running"  // one that was accepted still runs: after a minute, then each hour
	Refused  Event = "refused"  // a flow or a session was not accepted
	Merged   Event = "merged"   // Count lines like an earlier one were left out
	Settings Event = "settings" // the endpoint's own user changed something
	Admitted Event = "admitted" // a device has joined by a token, for which this endpoint has signed
	Policy   Event = "policy"   // another version of the policy of the mesh is in force here
	Trust    Event = "trust"    // another trust list is: somebody was evicted, or the mesh has another CA
	Forgot   Event = "forgot"   // lines about a user were dropped
	Dropped  Event = "dropped"  // Count lines did not reach the output Target
	Alive    Event = "alive"    // nothing else happened for an hour: silence has a reason
)

// Reason says why a flow was refused or ended early. The list is closed: programs read it.
type Reason string

// The reasons. A flow that ended by itself has none.
const (
	Denied      Reason = "denied"       // no rule lets the peer
	NotFound    Reason = "not-found"    // there is no such app or target
	Limited     Reason = "limit"        // a limit of this endpoint is reached
	Unavailable Reason = "unavailable"  // the target, or this endpoint, cannot now
	BadRequest  Reason = "bad-request"  // the request makes no sense
	Evicted     Reason = "evicted"      // the peer is no member any longer
	Gone        Reason = "gone"         // the peer went before it had an answer
	Cut         Reason = "cut"          // access was taken away while the flow ran
	Failed      Reason = "failed"       // anything else
	WouldRefuse Reason = "would-refuse" // it was let in, and once the grants of the policy are enforced it is not
)

// ReasonOf returns the reason that an error of a flow stands for; none for nil.
func ReasonOf(err error) Reason {
	switch answer.CodeOf(err) {
	case "":
		return ""
	case answer.Denied, answer.Prohibited:
		return Denied
	case answer.NotFound:
		return NotFound
	case answer.Limit:
		return Limited
	case answer.Unavailable, answer.Refused, answer.Timeout, answer.Unreachable, answer.DNS:
		return Unavailable
	case answer.BadRequest, answer.Conflict:
		return BadRequest
	}
	return Failed
}

// The results of a line.
const (
	OK  = "ok"
	No  = "no"  // it was refused
	End = "cut" // it was accepted, and cut
)

// Version is that of the lines below.
const Version = 1

// Line is one entry of the audit log. Its fields are in the order in which they are written. V, Time,
// Seq, Endpoint, EndpointID and Prev are set by [Log.Add].
type Line struct {
	V          int         `json:"v"`
	Time       string      `json:"time"` // RFC 3339 in UTC, with milliseconds
	Seq        uint64      `json:"seq"`  // from 1 since the agent started; a gap shows a loss
	Endpoint   string      `json:"ep"`
	EndpointID identity.ID `json:"epId"`
	Event      Event       `json:"event"`
	Result     string      `json:"result"`
	Reason     Reason      `json:"reason,omitempty"`
	User       string      `json:"user,omitempty"`
	Peer       string      `json:"peer,omitempty"` // the name of its endpoint, where it is known
	PeerID     identity.ID `json:"peerId,omitempty"`
	App        string      `json:"app,omitempty"`
	Target     string      `json:"target,omitempty"`
	Rule       string      `json:"rule,omitempty"`   // what let the peer in, or why it was refused: for the owner
	Detail     string      `json:"detail,omitempty"` // of a change: what it was, and the reason that was given
	Ref        string      `json:"ref,omitempty"`    // what the peer was told in place of Rule
	Policy     uint64      `json:"policy,omitempty"` // version of the policy in force
	Trust      uint64      `json:"trust,omitempty"`  // version of the trust list in force
	Flow       string      `json:"flow,omitempty"`   // the flow's ID, which both ends know
	Count      int         `json:"count,omitempty"`  // of Merged, and of lines that were forgotten
	Of         Event       `json:"of,omitempty"`     // of Merged: the event of the lines that were left out
	In         int64       `json:"in,omitempty"`     // bytes from the peer
	Out        int64       `json:"out,omitempty"`    // bytes to the peer
	Millis     int64       `json:"ms,omitempty"`     // how long the flow was open
	Prev       string      `json:"prev,omitempty"`   // hex SHA-256 of the line before, as it was written

	at time.Time // Time
}

// administrative reports whether a line is no flow: such lines have a part of the ring of their own.
func (l *Line) administrative() bool {
	return l.Event != Flow && l.Event != Opened && l.Event != Running && l.Event != Refused && l.Event != Merged
}

const (
	maxText = 256 // bytes of one value: names, targets
	maxRule = 512 // bytes of Rule, and of Detail
)

// bound cuts what peers can make long.
func (l *Line) bound() {
	for _, s := range []*string{&l.User, &l.Peer, &l.App, &l.Target, &l.Flow, &l.Endpoint} {
		*s = cut(*s, maxText)
	}
	l.Rule, l.Detail = cut(l.Rule, maxRule), cut(l.Detail, maxRule)
}

// cut shortens s to at most max bytes, at the end of a rune.
func cut(s string, max int) string {
	if len(s) > max {
		n := max
		for n > max-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.Clone(s) // a short part must not keep a long request
}

// Encode returns a line as it is written: one JSON object in ASCII without an end of line. Whatever
// its values hold, it is one line and moves no cursor.
func (l *Line) Encode() []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic("audit: internal error: " + err.Error()) // strings and numbers always are JSON
	}
	return ascii(b)
}

// ascii writes what is not printable ASCII as \u escapes. b is valid JSON: control characters below
// space are escaped in it already, and each of these runes is in a string.
func ascii(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r < 0x7f {
			out = append(out, b[:n]...)
		} else if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			out = escape(escape(out, hi), lo)
		} else {
			out = escape(out, r)
		}
		b = b[n:]
	}
	return out
}

func escape(out []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
