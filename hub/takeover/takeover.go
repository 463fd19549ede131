// Package takeover says whose a name is when a device wants one that another has.
//
// A device that was lost or set up anew has another key, and so another ID. It may take its name
// back from the old one:
//
//   - the same user, and not admitted earlier, nor by a certificate that was made earlier: the old one cannot take it back
//   - the old one is offline and was admitted earlier, or the device asks for it (replace)
//
// The old one is forgotten, and told so when it comes again.
package takeover

import (
	"log/slog"

	"ztm/hub/directory"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Claims are those of a directory. All fields are set, and constant; its methods may be called from
// any goroutine.
type Claims struct {
	Directory directory.Directory
	Verifier  *identity.Verifier
	Log       *slog.Logger
}

// holder returns the endpoint that has a name, and whether it is online; false if there is none.
func (n *Claims) holder(name string) (sub identity.Subject, online, found bool) {
	for _, e := range n.Directory.List(directory.Filter{Name: name, Limit: 1}).Entries {
		r, sub, err := n.Verifier.InspectRecord(e.Record)
		if err == nil && r.Name == name {
			return sub, e.Online, true
		}
	}
	return sub, false, false
}

// Check returns what is known of the name that a joining device wants.
func (n *Claims) Check(req *tunnel.JoinRequest) *tunnel.NameCheck {
	c := n.Directory.Check(req.Name, identity.IDOf(req.Key))
	if c.Taken == nil {
		return c
	}
	if holder, online, found := n.holder(req.Name); found && (!online || req.Replace) {
		c.FreeFor = holder.User
	}
	return c
}

// MakeRoom forgets the endpoint that another of its user replaces. A name that is not given away is
// for the directory to refuse.
func (n *Claims) MakeRoom(name string, by identity.Subject, replace bool) error {
	old, online, found := n.holder(name)
	if !found || old.ID == by.ID || old.User != by.User {
		return nil
	}
	if later(old, by) {
		return answer.Errorf(answer.Conflict, "endpoint %s of user %s has taken the place of this one as %s: leave the mesh here, or join again with a new permit",
			old.ID, old.User, name)
	}
	// Of two that were admitted in the same second neither is later: the one that has the name keeps
	// it, or each would take it back from the other.
	if !replace && (online || !later(by, old)) {
		return nil
	}
	n.Log.Info("an endpoint is replaced by another of its user", "name", name, "user", by.User, "old", old.ID, "endpoint", by.ID)
	// Until the other one is in its place the name is kept for their user.
	_, err := n.Directory.Remove(true, func(sub identity.Subject) bool { return sub.ID == old.ID })
	return err
}

// later reports whether an endpoint became a member after another.
func later(a, b identity.Subject) bool {
	if !a.Admitted.Equal(b.Admitted) {
		return a.Admitted.After(b.Admitted)
	}
	return a.NotBefore.After(b.NotBefore)
}
