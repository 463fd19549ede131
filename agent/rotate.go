package agent

import (
	"context"
	"errors"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// How the CA of a mesh is replaced:
//
//  1. rotate       makes the next CA, on an endpoint that holds the present one, and keeps it in the database before anybody hears of it:
//     whatever happens from here on, its key is not lost
//  2. issueTrust   takes the list that the old CA signed for the new one to the hub, and so to everyone
//  3. updateTrust  puts it in force, here as everywhere; here the CA that was made comes into use
//  4. renewIfDue   gets everybody a certificate of the new CA
//  5. cutStale     refuses and cuts, when the old CA retires, what still rests on it

const maxGrace = 365 * 24 * time.Hour

var (
	errNotSigner = errors.New("this endpoint does not hold the mesh's CA key")
	errOldKey    = errors.New("the CA key that this endpoint holds was replaced: join again with the new root permit")
)

// signer returns the mesh's CA with its key, if this endpoint holds that of the newest.
func (m *mesh) signer() (*identity.CA, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ca == nil:
		return nil, errNotSigner
	case !m.signsLocked():
		return nil, errOldKey
	}
	return m.ca, nil
}

func (m *mesh) signsLocked() bool { return m.ca != nil && m.ca.ID() == m.verifier.Trust().Newest() }

func (m *mesh) setCA(ca *identity.CA) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ca = ca
}

// made returns the CA that was made here to be the mesh's next one, if that is its ID; nil otherwise.
func (m *mesh) made(id identity.ID) *identity.CA {
	m.mu.Lock()
	row := m.row.Next
	m.mu.Unlock()
	if row == nil {
		return nil
	}
	ca, err := identity.ParseCA([]byte(row.CA), []byte(row.Key))
	if err != nil {
		m.log.Error("cannot read the CA that was made here", "err", err)
		return nil
	}
	if ca.ID() != id {
		return nil
	}
	return ca
}

// rotate replaces the mesh's CA and returns the new root permit. What the old one signed is accepted for the grace; with none, it is void at
// once.
func (m *mesh) rotate(ctx context.Context, grace time.Duration) (*identity.Permit, error) {
	if grace < 0 || grace > maxGrace {
		return nil, answer.Errorf(answer.BadRequest, "old certificates can be accepted for up to %d days more", maxGrace/(24*time.Hour))
	}
	m.rotateMu.Lock()
	defer m.rotateMu.Unlock()
	next, err := m.nextCA()
	if err != nil {
		return nil, err
	}
	_, err = m.issueTrust(ctx, func(t *identity.Trust, ca *identity.CA, now time.Time) (*identity.Trust, error) {
		if t.Newest() == next.ID() {
			return t, nil // the hub had it all the time: its answer to an earlier attempt was lost
		}
		if hub, ok := m.askHubTime(ctx); ok && now.Sub(hub) > maxHubAhead {
			return nil, answer.Errorf(answer.Conflict, "this device's clock says %s and the hub's %s: set the clock first, or the new CA may be void for everybody else",
				now.UTC().Format(time.RFC3339), hub.UTC().Format(time.RFC3339))
		}
		return t.Rotate(ca, next, now.Add(grace), now)
	})
	if err != nil {
		return nil, err
	}
	return m.rootPermit()
}

// nextCA returns the CA that follows: the one of an earlier attempt, or a new one that is on disk when it returns.
func (m *mesh) nextCA() (*identity.CA, error) {
	ca, err := m.signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "only an endpoint of user %s can replace the CA: %v", rootUser, err)
	}
	m.mu.Lock()
	row := m.row.Next
	m.mu.Unlock()
	if row != nil {
		return identity.ParseCA([]byte(row.CA), []byte(row.Key))
	}
	next, err := ca.Successor(m.agent.clock.Now())
	if err != nil {
		return nil, err
	}
	return next, m.save(func(r *meshRow) { r.Next = &caRow{CA: string(next.CertificatePEM()), Key: string(next.KeyPEM())} })
}

// rootPermit makes the permit that holds the mesh's CA key.
func (m *mesh) rootPermit() (*identity.Permit, error) {
	ca, err := m.signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	return &identity.Permit{
		Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), CAKey: string(ca.KeyPEM()), Bootstraps: m.control.Addresses(),
		Trust: m.verifier.Trust().Document(),
	}, nil
}
