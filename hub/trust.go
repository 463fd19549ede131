package hub

import (
	"errors"
	"net/http"
	"time"

	"ztm/hub/shared"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// getTrust is GET /v1/trust.
func (s *server) getTrust(w http.ResponseWriter, _ *http.Request, _ *peer, _ string) error {
	doc := s.verifier.Trust().Document()
	if doc == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	hurry(w)
	answer.Document(w, doc)
	return nil
}

// postTrust is POST /v1/trust. Any member may bring a newer list: the CA's signature makes it good.
func (s *server) postTrust(w http.ResponseWriter, r *http.Request, p *peer, _ string) error {
	if err := s.takeList(w, r, p); err != nil {
		return err
	}
	if !shared.Agree(r.Context(), s.shared, s.log) {
		w.WriteHeader(http.StatusAccepted) // in force on hubs that can be reached
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// takeList reads the list of a request and puts it in force.
func (s *server) takeList(w http.ResponseWriter, r *http.Request, p *peer) error {
	if !s.changes.Take(p.ID, time.Now()) {
		return answer.Errorf(answer.Limit, "endpoint %s sends trust lists too often", p.ID)
	}
	// A list may be large, so one endpoint sends one at a time, and all of them a few. Lists of
	// user root have their own places: an eviction must get through.
	if !p.posting.CompareAndSwap(false, true) {
		return answer.Errorf(answer.Limit, "endpoint %s is already sending a trust list", p.ID)
	}
	defer p.posting.Store(false)
	places := s.lists
	if p.User == identity.RootUser {
		places = s.rootLists
	}
	doc, err := s.readBody(places, w, r, p, tunnel.MaxTrust)
	if err != nil {
		return err
	}
	if err := shared.AgreeFirst(r.Context(), s.shared, s.verifier.Trust(), doc); err != nil {
		return err
	}
	return s.setTrust(doc, p)
}

// setTrust puts a newer trust list in force, at once and for connections that stand already. An
// endpoint of user root that brought the list gets its answer, even if the list voids its
// certificate. Its next request is verified like all others.
func (s *server) setTrust(doc []byte, from *peer) error {
	s.trusting.Lock()
	defer s.trusting.Unlock()
	old := s.verifier.Trust()
	next, err := old.Update(doc)
	switch {
	case errors.Is(err, identity.ErrFork):
		s.fork(doc)
		return answer.Errorf(answer.Conflict, "%v", err)
	case errors.Is(err, identity.ErrRollback):
		return answer.Errorf(answer.Conflict, "%v", err)
	case err != nil:
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	if next == old {
		return nil
	}
	// The list is in force before it is on disk: an evicted user must be out, even if the disk
	// fails.
	s.verifier.Set(next)
	now := s.verifier.Clock().Now()
	spared := identity.ID("")
	if from.User == identity.RootUser && next.Reverify(from.Subject, now) != nil {
		spared = from.ID
	}
	stale := func(sub identity.Subject) bool { return sub.ID != spared && next.Reverify(sub, now) != nil }
	cut := s.peers.cut(func(p *peer) bool { return stale(p.Subject) })
	gone, failed := s.directory.Remove(true, func(sub identity.Subject) bool { return sub.ID != spared && s.outdated(sub, next) })
	s.log.Info("a new trust list is in force", "version", next.Version(), "connections cut", cut, "endpoints removed", gone)
	s.forks.Settle(next, now)
	s.links.Recheck()
	if spared == "" && next.Newest() != old.Newest() {
		s.signers.wake() // The hub's own certificate is of another CA now. Whoever is spared can sign when it comes back: its next request ends it.
	}
	if s.shared != nil {
		s.shared.Changed()
	}
	event := &tunnel.Event{Type: tunnel.EventTrust, Version: next.Version(), Sum: next.Head().Sum}
	s.sessions.each(func(session *session) {
		if session.peer.ID != spared && !session.send(event) {
			s.metrics.cut.Add(1)
		}
	})
	return errors.Join(s.state.SetTrust(next.Document()), failed)
}
