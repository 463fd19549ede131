package agent

import (
	"net/http"

	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// The trust list of a mesh, which says whose certificates are good:
//
//	the hub tells of a newer one (syncTrust) ──────┐
//	a peer has a newer one (compareTrust) ─────────┼─> updateTrust: verified, on disk, in force ─> cutStale
//	root evicts or rotates here (issueTrust) ─ hub ┘ (evict.go, rotate.go)

// updateTrust takes a newer trust list: verified, kept on disk, and applied to everything that is open.
func (m *mesh) updateTrust(doc []byte) error {
	old := m.verifier.Trust()
	next, err := old.Update(doc) // without the lock: an eviction does not wait behind a list that is no good
	if err != nil {
		return err
	}
	m.trustMu.Lock()
	defer m.trustMu.Unlock()
	if now := m.verifier.Trust(); now != old {
		if old = now; next.Version() <= old.Version() {
			return nil
		}
		if next, err = old.Update(doc); err != nil {
			return err
		}
	}
	if next.Version() <= old.Version() {
		return nil
	}
	own := m.made(next.Newest())
	err = m.save(func(r *meshRow) {
		r.Trust = next.Document()
		if own != nil {
			r.CA, r.CAKey, r.Next = string(own.CertificatePEM()), string(own.KeyPEM()), nil
		}
	})
	if err != nil {
		return err
	}
	m.verifier.Set(next)
	if own != nil {
		m.setCA(own)
	}
	m.log.Info("new trust list", "version", next.Version())
	if next.Newest() != old.Newest() {
		m.log.Info("the mesh has a new CA")
		m.control.Publish() // whether we may sign has changed
	}
	m.cutStale()
	select {
	case m.trusted <- struct{}{}:
	default: // somebody will look anyway
	}
	return nil
}

// syncTrust brings hub and agent to the same trust list: both may be behind.
func (m *mesh) syncTrust(s *tunnel.Session, version uint64) {
	own := m.verifier.Trust()
	if len(m.unsettled()) > 0 {
		if err := m.settle(m.life, s); err != nil {
			m.log.Warn("the hub does not take an eviction that is in force here", "users", m.unsettled(), "err", err)
		}
		return
	}
	if version < own.Version() {
		if err := s.Call(m.life, http.MethodPost, tunnel.PathTrust, nil, own.Document(), nil); err != nil {
			m.log.Warn("the hub refused the newer trust list", "err", err)
		}
		return
	}
	if version == own.Version() {
		return
	}
	if err := m.fetchTrust(s); err != nil {
		m.log.Warn("the trust list of the hub was refused", "err", err)
	}
}

func (m *mesh) fetchTrust(s *tunnel.Session) error {
	var doc []byte
	if err := s.Call(m.life, http.MethodGet, tunnel.PathTrust, nil, nil, &doc); err != nil {
		return err
	}
	return m.updateTrust(doc)
}

// reverify verifies a peer again, or the hub: it may have been evicted since the handshake, and time goes on.
func (m *mesh) reverify(s identity.Subject) error {
	return m.verifier.Trust().Reverify(s, m.agent.clock.Now())
}

// cutStale ends all that rests on a membership that is over: what peers have here, and the session with a hub.
func (m *mesh) cutStale() {
	m.peers.CutStale()
	if s, hub := m.control.Now(); s != nil && m.reverify(hub) != nil {
		m.log.Info("leaving a hub whose certificate is no longer valid", "hub", s.Address())
		s.Close()
	}
}
