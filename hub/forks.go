package hub

import (
	"net/http"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// fork keeps a list that differs from the hub's, and tells holders of the CA key who are online.
func (s *server) fork(doc []byte) {
	own := s.verifier.Trust()
	if !s.forks.Add(own, doc, s.verifier.Clock().Now()) {
		return
	}
	sum := identity.SumOf(doc)
	s.log.Warn("two trust lists of this mesh differ; an endpoint that holds the CA key unites them", "own", own.Version())
	s.sessions.each(func(session *session) {
		if session.peer.User == identity.RootUser {
			session.Offer(limits.SignQueue, &tunnel.Event{Type: tunnel.EventFork, Sum: sum})
		}
	})
}

// getFork is GET /v1/trust/SUM, for holders of the CA key.
func (s *server) getFork(w http.ResponseWriter, _ *http.Request, p *peer, arg string) error {
	if p.User != identity.RootUser {
		return answer.Errorf(answer.Denied, "only endpoints of user %s unite trust lists", identity.RootUser)
	}
	doc := s.forks.Get(arg)
	if doc == nil {
		return answer.Errorf(answer.NotFound, "there is no trust list of sum %.40q", arg)
	}
	hurry(w)
	answer.Document(w, doc)
	return nil
}
