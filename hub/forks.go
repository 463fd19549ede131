package hub

import (
	"bytes"
	"errors"
	"net/http"
	"sync"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// maxForks is how many trust lists that differ from the hub's are kept for holders of the CA key.
// Whoever brought one brings it again.
const maxForks = 4

// forks are trust lists that the mesh's CA has signed and that hold evictions which the hub's list
// lacks, or the reverse. The hub cannot unite them: it keeps its own list and shows the others to
// holders of the CA key.
type forks struct {
	mu   sync.Mutex
	docs map[string][]byte // by sum
}

// add keeps a list, and reports whether it is new and there was room.
func (f *forks) add(sum string, doc []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.docs[sum] != nil || len(f.docs) >= maxForks {
		return false
	}
	if f.docs == nil {
		f.docs = map[string][]byte{}
	}
	f.docs[sum] = bytes.Clone(doc)
	return true
}

// get returns a list; nil if it is not there.
func (f *forks) get(sum string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.docs[sum]
}

// sums returns the lists that are kept.
func (f *forks) sums() (all []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sum := range f.docs {
		all = append(all, sum)
	}
	return all
}

// settle forgets the lists that a newer one holds.
func (f *forks) settle(now *identity.Trust) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sum, doc := range f.docs {
		if _, err := now.Update(doc); !errors.Is(err, identity.ErrFork) {
			delete(f.docs, sum)
		}
	}
}

// fork keeps a list that differs from the hub's, and tells holders of the CA key who are online.
func (s *server) fork(doc []byte) {
	sum := identity.SumOf(doc)
	if !s.forks.add(sum, doc) {
		return
	}
	s.log.Warn("two trust lists of this mesh differ; an endpoint that holds the CA key unites them", "own", s.verifier.Trust().Version())
	s.sessions.each(func(session *session) {
		if session.peer.User == rootUser {
			session.Offer(limits.SignQueue, &tunnel.Event{Type: tunnel.EventFork, Sum: sum})
		}
	})
}

// getFork is GET /v1/trust/SUM, for holders of the CA key.
func (s *server) getFork(w http.ResponseWriter, _ *http.Request, p *peer, arg string) error {
	if p.User != rootUser {
		return answer.Errorf(answer.Denied, "only endpoints of user %s unite trust lists", rootUser)
	}
	doc := s.forks.get(arg)
	if doc == nil {
		return answer.Errorf(answer.NotFound, "there is no trust list of sum %.40q", arg)
	}
	hurry(w)
	answer.Document(w, doc)
	return nil
}
