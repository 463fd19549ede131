package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ztm/agent/api"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// The trust list of a mesh, which says whose certificates are good:
//
//	the hub tells of a newer one (syncTrust) ──────┐
//	a peer has a newer one (compareTrust) ─────────┼─> updateTrust: verified, on disk, in force ─> cutStale
//	root evicts or rotates here (issueTrust) ─ hub ┘

// updateTrust takes a newer trust list: verified, kept on disk, and applied to everything that is open.
func (m *mesh) updateTrust(doc []byte) error {
	m.trustMu.Lock()
	defer m.trustMu.Unlock()
	old := m.verifier.Trust()
	next, err := old.Update(doc)
	if err != nil {
		return err
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
		m.publish() // whether we may sign has changed
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
	if version < own.Version() {
		if err := s.Call(m.life, http.MethodPost, tunnel.PathTrust, nil, own.Document(), nil); err != nil {
			m.log.Warn("the hub did not take the newer eviction list", "err", err)
		}
		return
	}
	if version == own.Version() {
		return
	}
	if err := m.fetchTrust(s); err != nil {
		m.log.Warn("the hub's eviction list is not taken", "err", err)
	}
}

func (m *mesh) fetchTrust(s *tunnel.Session) error {
	var doc []byte
	if err := s.Call(m.life, http.MethodGet, tunnel.PathTrust, nil, nil, &doc); err != nil {
		return err
	}
	return m.updateTrust(doc)
}

// evict cuts a user off: with the next trust list, which is in force here at once.
func (m *mesh) evict(ctx context.Context, user string) (api.Evicted, error) {
	out := api.Evicted{User: user}
	if _, err := m.signer(); err != nil {
		return out, answer.Errorf(answer.Denied, "only an endpoint of user %s can evict: %v", rootUser, err)
	}
	if user == m.user() {
		return out, answer.Errorf(answer.BadRequest, "user %s cannot evict itself", user)
	}
	if err := identity.CheckName(user); err != nil {
		return out, answer.Errorf(answer.BadRequest, "%v", err)
	}
	admissions, err := m.admissions(ctx, user)
	if err != nil {
		return out, err
	}
	out.Endpoints = len(admissions)
	list, err := m.issueTrust(ctx, func(t *identity.Trust, ca *identity.CA, now time.Time) (*identity.Trust, error) {
		return t.Evict(ca, user, now, admissions...)
	})
	if err != nil {
		return out, err
	}
	out.Version = list.Version()
	return out, nil
}

// issueTrust makes the next trust list and gives it to the hub, which gives it to everyone. Where somebody else made one at the same
// time it is made again, from theirs. next returns the list it was given if there is nothing left to do.
func (m *mesh) issueTrust(ctx context.Context,
	next func(*identity.Trust, *identity.CA, time.Time) (*identity.Trust, error)) (*identity.Trust, error) {
	s, _, err := m.session(ctx)
	if err != nil {
		return nil, err
	}
	for range issueAttempts {
		ca, err := m.signer()
		if err != nil {
			return nil, answer.Errorf(answer.Denied, "%v", err)
		}
		trust := m.verifier.Trust()
		list, err := next(trust, ca, m.agent.clock.Now())
		if err != nil {
			return nil, answer.Errorf(answer.Internal, "%v", err)
		}
		if list == trust {
			return list, nil
		}
		// The hub decides which of two lists of one version is the list: it goes there first.
		err = s.Call(ctx, http.MethodPost, tunnel.PathTrust, nil, list.Document(), nil)
		if err == nil {
			return list, m.updateTrust(list.Document())
		}
		if answer.CodeOf(err) != answer.Conflict {
			return nil, appError(err)
		}
		if err := m.fetchTrust(s); err != nil {
			return nil, appError(err)
		}
	}
	return nil, answer.Errorf(answer.Conflict, "other endpoints of %s evict or rotate at the same time: try again", rootUser)
}

const issueAttempts = 5

// admissions lists when the user's endpoints were admitted, as far as the directory knows: an eviction covers certificates that a
// fast clock made, too.
func (m *mesh) admissions(ctx context.Context, user string) ([]time.Time, error) {
	var out []time.Time
	for offset := 0; ; {
		var page tunnel.Page
		q := url.Values{"user": {user}, "offset": {strconv.Itoa(offset)}}
		if err := m.hubCall(ctx, http.MethodGet, tunnel.PathEndpoints, q, nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			if _, s, err := m.verifier.Record(e.Record); err == nil && s.User == user {
				out = append(out, s.Admitted)
			}
		}
		if offset += len(page.Entries); !page.More || len(page.Entries) == 0 {
			return out, nil
		}
	}
}

// compareTrust passes trust lists on between peers: a hub that withholds an eviction is found out by the first peer that knows
// of it.
func (m *mesh) compareTrust(s *seal.Session, resp *http.Response) {
	var theirs uint64
	if json.Unmarshal([]byte(resp.Header.Get(trustHeader)), &theirs) != nil {
		return
	}
	own := m.verifier.Trust()
	method, body := http.MethodGet, []byte(nil)
	switch {
	case theirs == own.Version():
		return
	case theirs < own.Version():
		method, body = http.MethodPost, own.Document()
	}
	m.goLimited(func() {
		ctx, cancel := context.WithTimeout(m.life, tunnel.ProbeTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "http://peer/trust", bytes.NewReader(body))
		if err != nil {
			return
		}
		resp, err := s.RoundTrip(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if doc, err := io.ReadAll(io.LimitReader(resp.Body, maxTrustBody)); err == nil && method == http.MethodGet {
			if err := m.updateTrust(doc); err != nil {
				m.log.Warn("a peer's eviction list is refused", "peer", s.Peer.ID, "err", err)
			}
		}
	})
}

// rejudge judges a peer again, or the hub: it may have been evicted since the handshake, and time goes on.
func (m *mesh) rejudge(s identity.Subject) error {
	return m.verifier.Trust().Rejudge(s, m.agent.clock.Now())
}

// cutStale ends all that a peer has here that is not a member any more: evicted, expired, or admitted by a CA that has retired.
func (m *mesh) cutStale() {
	stale := func(s identity.Subject) bool { return m.rejudge(s) != nil }
	m.pool.closeIf(stale)
	for _, f := range m.opened() {
		if stale(f.peer) { // in a lane it does not end with the session
			f.Reset()
		}
	}
	for _, in := range m.inbounds() {
		if err := m.rejudge(in.peer); err != nil {
			m.log.Info("session cut", "user", in.peer.User, "peer", in.peer.ID, "err", err)
			in.conn.Close()
		}
	}
	m.endGone()
	m.mu.Lock()
	control, hub := m.control, m.hub
	m.mu.Unlock()
	if control != nil && stale(hub) {
		m.log.Info("leaving a hub whose certificate is no longer good", "hub", control.Address())
		control.Close()
	}
}

func (m *mesh) opened() []*outFlow {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.outFlows))
}

func (m *mesh) inbounds() []*inbound {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*inbound
	for in := range m.inbound {
		out = append(out, in)
	}
	return out
}
