package apps

import "ztm/tunnel/answer"

// Refusal returns what a peer gets to see of err, with which an app of endpoint self has refused its
// flow. The endpoint's own user sees err as [answer.Public] has it. Others get the same words for
// each thing that they may not have: whether a rule is missing, names others, or would let them do
// something else is the owner's to know. ref is how the owner finds the reason: it stands beside err
// in the log and in the record.
//
// What is no matter of rights, such as a target that refuses the connection, everybody gets to see.
func Refusal(self Endpoint, p Peer, ref string, err error) *answer.Error {
	e := answer.Public(err)
	if !IsDenial(e) || p.User != "" && p.User == self.User {
		return e
	}
	return answer.Errorf(e.Code, "not allowed (ref %s): ask the owner of %s", ref, self.Name)
}

// IsDenial reports whether err says that a peer may not have what it asks for.
func IsDenial(err error) bool {
	code := answer.CodeOf(err)
	return code == answer.Denied || code == answer.Prohibited
}
