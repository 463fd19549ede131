package authority

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Two trust lists of a mesh differ when two endpoints of root evicted at hubs that did not hear of
// each other. None of the two may be dropped:
//
//	a list comes (takeList) ── holds all evictions known here ──────> UpdateTrust
//	                        └─ lacks one: ErrFork
//	                             ├─ a holder of the CA key unites them (unite) ──> its hub, and so everybody
//	                             └─ others keep theirs and show both to the hub (passOn),
//	                                which asks a holder of the CA key (uniteFork)

// takeList takes the list of a hub or a peer. The error is [identity.ErrFork] if it differs from
// the one in force and this endpoint cannot unite the two.
func (a *Authority) takeList(doc []byte) error {
	err := a.UpdateTrust(doc)
	if !errors.Is(err, identity.ErrFork) {
		return err
	}
	if a.Signs() {
		// Where the key that this endpoint holds was replaced in that list, the holder of the new one
		// unites them.
		if err := a.unite(a.Life, doc); !errors.Is(err, identity.ErrNoCA) {
			return err
		}
	}
	a.PeerLog.Warn("fork", "two trust lists of this mesh differ: this endpoint keeps its own until one that holds the CA key has united them", "err", err)
	a.Work.Go(func() { a.passOn(a.Life, doc) })
	return err
}

// unite puts a list in force that holds the evictions of the one in force and of another, and
// brings it to a hub. If no hub takes it, it goes from peer to peer. The error is
// [identity.ErrNoCA] if the mesh has another CA by now, whose key is elsewhere.
func (a *Authority) unite(ctx context.Context, doc []byte) error {
	replaced := false
	list, err := a.issueTrust(ctx, func(t *identity.Trust, ca *identity.CA, now time.Time) (*identity.Trust, error) {
		list, err := t.Unite(ca, a.SigningTime(ctx, now), doc)
		replaced = errors.Is(err, identity.ErrNoCA)
		return list, err
	})
	if replaced {
		return identity.ErrNoCA
	}
	var no *untaken
	if errors.As(err, &no) {
		list, err = no.list, a.UpdateTrust(no.list.Document())
		a.Work.Go(a.handOn)
	}
	if err == nil {
		a.Log.Info("two trust lists of this mesh differed and are united", "version", list.Version())
	}
	return err
}

// uniteFork unites a list that a hub was shown with the one in force.
func (a *Authority) uniteFork(s *tunnel.Session, sum string) {
	if !a.Signs() {
		return
	}
	var doc []byte
	err := s.Call(a.Life, http.MethodGet, tunnel.PathTrust+"/"+sum, nil, nil, &doc)
	if answer.CodeOf(err) == answer.NotFound {
		return // somebody else was faster
	}
	if err == nil {
		err = a.unite(a.Life, doc)
	}
	if err != nil && a.Life.Err() == nil {
		a.Log.Warn("cannot unite two trust lists of this mesh", "err", err)
	}
}

// passOn shows the hub a list that differs from the one in force, and the one in force.
func (a *Authority) passOn(ctx context.Context, doc []byte) {
	s, _ := a.Control.Now()
	if s == nil {
		return // it is found again
	}
	for _, d := range [][]byte{a.Verifier.Trust().Document(), doc} {
		if len(d) == 0 || !a.passed.first(s.Address()+identity.SumOf(d), time.Now()) {
			continue
		}
		// The hub answers that it has another: it keeps this one for holders of the CA key.
		if err := s.Call(ctx, http.MethodPost, tunnel.PathTrust, nil, d, nil); err != nil && answer.CodeOf(err) != answer.Conflict {
			a.PeerLog.Warn("hub trust", "the hub refused a trust list", "err", err)
		}
	}
}

// passEvery is how often the same list is shown to a hub.
const passEvery = 10 * time.Minute

// passedOn remembers which lists were shown to a hub lately. The zero value is ready for use.
type passedOn struct {
	mu   sync.Mutex
	when map[string]time.Time // by hub and sum; at most maxPassed
}

const maxPassed = 16

// first reports whether a list was not shown to a hub lately.
func (p *passedOn) first(key string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.when[key]; ok && now.Sub(at) < passEvery {
		return false
	}
	if p.when == nil || len(p.when) >= maxPassed {
		p.when = map[string]time.Time{}
	}
	p.when[key] = now
	return true
}
