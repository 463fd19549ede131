package hub

import (
	"ztm/hub/directory"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// A device that was lost or set up anew has another key, and so another ID. It may take its name
// back from the old one:
//
//   - the same user, and not admitted earlier, nor by a certificate that was made earlier: the old one cannot take it back
//   - the old one is offline, or the device asks for it (replace)
//
// The old one is forgotten, and told so when it comes again.

// holder returns the endpoint that has a name, and whether it is online; false if there is none.
func (s *server) holder(name string) (sub identity.Subject, online, found bool) {
	for _, e := range s.directory.List(directory.Filter{Name: name, Limit: 1}).Entries {
		r, sub, err := s.verifier.InspectRecord(e.Record)
		if err == nil && r.Name == name {
			return sub, e.Online, true
		}
	}
	return sub, false, false
}

// checkName is what is known of the name that a joining device wants.
func (s *server) checkName(req *tunnel.JoinRequest) *tunnel.NameCheck {
	c := s.directory.Check(req.Name, identity.IDOf(req.Key))
	if c.Taken == nil {
		return c
	}
	if holder, online, found := s.holder(req.Name); found && (!online || req.Replace) {
		c.FreeFor = holder.User
	}
	return c
}

// makeRoom forgets the endpoint that another of its user replaces. A name that is not given away is
// for the directory to refuse.
func (s *server) makeRoom(name string, by identity.Subject, replace bool) error {
	old, online, found := s.holder(name)
	if !found || old.ID == by.ID || old.User != by.User {
		return nil
	}
	if later(old, by) {
		return answer.Errorf(answer.Conflict, "endpoint %s of user %s has taken the place of this one as %s: leave the mesh here, or join again with a new permit",
			old.ID, old.User, name)
	}
	if online && !replace {
		return nil
	}
	s.log.Info("an endpoint is replaced by another of its user", "name", name, "user", by.User, "old", old.ID, "endpoint", by.ID)
	_, err := s.directory.Remove(false, func(sub identity.Subject) bool { return sub.ID == old.ID })
	return err
}

// later reports whether an endpoint became a member after another.
func later(a, b identity.Subject) bool {
	if !a.Admitted.Equal(b.Admitted) {
		return a.Admitted.After(b.Admitted)
	}
	return a.NotBefore.After(b.NotBefore)
}
