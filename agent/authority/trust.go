package authority

import (
	"errors"
	"net/http"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The trust list of a mesh, which says whose certificates are good:
//
//	the hub tells of a newer one (SyncTrust) ──────┐
//	a peer has a newer one (compareTrust) ─────────┼─> updateTrust: verified, on disk, in force ─> cutStale
//	root evicts or rotates here (issueTrust) ─ hub ┘ (evict.go, rotate.go)

// UpdateTrust takes a newer trust list: verified, kept on disk, and applied to everything that is
// open.
func (a *Authority) UpdateTrust(doc []byte) error {
	old := a.Verifier.Trust()
	next, err := old.Update(doc) // without the lock: an eviction does not wait behind a list that is no good
	if err != nil {
		return err
	}
	a.trustMu.Lock()
	defer a.trustMu.Unlock()
	if now := a.Verifier.Trust(); now != old {
		old = now
		if next, err = old.Update(doc); err != nil {
			return err
		}
	}
	if next == old {
		return nil
	}
	own := a.made(next.Newest())
	err = a.Book.Save(func(r *Row) {
		r.Trust = next.Document()
		if own != nil {
			r.CA, r.CAKey, r.Next = string(own.CertificatePEM()), string(own.KeyPEM()), nil
		}
	})
	if err != nil {
		return err
	}
	a.Verifier.Set(next)
	a.TrustChanged() // before the user who was evicted can be somebody else
	if own != nil {
		a.setCA(own)
	}
	a.Log.Info("new trust list", "version", next.Version())
	if next.Newest() != old.Newest() {
		a.Log.Info("the mesh has a new CA")
		a.Control.Publish() // whether we may sign has changed
	}
	a.cutStale()
	a.Control.TrustChanged()
	select {
	case a.trusted <- struct{}{}:
	default: // somebody will look anyway
	}
	return nil
}

// SyncTrust brings hub and agent to the same trust list: both may be behind. e is what the hub said
// of its own last.
func (a *Authority) SyncTrust(s *tunnel.Session, e tunnel.Event) {
	hub := identity.Head{Version: e.Version, Sum: e.Sum}
	if len(a.Unsettled()) > 0 {
		err := a.Settle(a.Life, s)
		if err != nil {
			a.PeerLog.Warn("hub trust", "the hub does not take an eviction that is in force here", "users", a.Unsettled(), "err", err)
		}
		if !errors.Is(err, identity.ErrNoCA) {
			return
		}
		// The mesh has a new key, and its holder has to unite the two lists, see takeList.
	}
	own := a.Verifier.Trust()
	if own.Head().Same(hub) {
		return
	}
	if hub.Version < own.Version() {
		err := postTrust(a.Life, s, own)
		if answer.CodeOf(err) == answer.Conflict {
			err = a.fetchTrust(s) // it has one that differs, or another device was faster
		}
		if err != nil && !errors.Is(err, identity.ErrRollback) {
			a.PeerLog.Warn("hub trust", "the hub refused the newer trust list", "err", err)
		}
		return
	}
	if err := a.fetchTrust(s); errors.Is(err, identity.ErrRollback) {
		if err := postTrust(a.Life, s, own); err != nil {
			a.PeerLog.Warn("hub trust", "the hub refused the trust list", "err", err)
		}
	} else if err != nil {
		a.PeerLog.Warn("hub trust", "the trust list of the hub was refused", "err", err)
	}
}

// fetchTrust takes the list of a hub.
func (a *Authority) fetchTrust(s *tunnel.Session) error {
	var doc []byte
	if err := s.Call(a.Life, http.MethodGet, tunnel.PathTrust, nil, nil, &doc); err != nil {
		return err
	}
	return a.takeList(doc)
}

// Reverify verifies a peer again, or the hub: it may have been evicted since the handshake, and
// time goes on.
func (a *Authority) Reverify(s identity.Subject) error {
	return a.Verifier.Trust().Reverify(s, a.Verifier.Clock().Now())
}

// cutStale ends all that rests on a membership that is over: what peers have here, and sessions with
// hubs.
func (a *Authority) cutStale() {
	a.Peers.CutStale()
	a.Control.LeaveHubs(func(hub identity.Subject) bool { return a.Reverify(hub) != nil })
}
