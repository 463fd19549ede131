package apps

import (
	"errors"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// Refusal returns what a peer gets to see of err, with which an app of endpoint self has refused its
// flow. The endpoint's own user sees err as [answer.Public] has it. Others get the same words for
// each thing that they may not have: whether a rule is missing, names others, or would let them do
// something else is the owner's to know. ref is how the owner finds the reason: it stands beside err
// in the log and in the record.
//
// There is one exception, the peer's own former right: whoever had access and has it no longer because
// its time is over reads that, and when it was.
//
// What is no matter of rights, such as a target that refuses the connection, everybody gets to see.
func Refusal(self Endpoint, p Peer, ref string, err error) *answer.Error {
	e := answer.Public(err)
	if !IsDenial(e) || p.User != "" && p.User == self.User {
		return e
	}
	if ended := (*Ended)(nil); errors.As(err, &ended) {
		return answer.Errorf(e.Code, "your access to %s at %s ended %s (ref %s): ask its owner", ended.What, self.Name, unixtime.Text(ended.At), ref)
	}
	return answer.Errorf(e.Code, "not allowed (ref %s): ask the owner of %s", ref, self.Name)
}

// Ended is the refusal of a peer whose access has come to its end.
type Ended struct {
	What string    // an app and what of it, as the peer has asked for it
	At   time.Time // the end
	Err  error     // for the owner
}

// Error implements error.
func (e *Ended) Error() string { return e.Err.Error() }

// Unwrap returns what the owner reads.
func (e *Ended) Unwrap() error { return e.Err }

// IsDenial reports whether err says that a peer may not have what it asks for.
func IsDenial(err error) bool {
	code := answer.CodeOf(err)
	return code == answer.Denied || code == answer.Prohibited
}
