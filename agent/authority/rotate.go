package authority

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

// Signer returns the mesh's CA with its key, if this endpoint holds that of the newest.
func (a *Authority) Signer() (*identity.CA, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ca == nil:
		return nil, errNotSigner
	case !a.signsLocked():
		return nil, errOldKey
	}
	return a.ca, nil
}

func (a *Authority) signsLocked() bool {
	return a.ca != nil && a.ca.ID() == a.Verifier.Trust().Newest()
}

// Signs reports whether this endpoint holds the key of the mesh's newest CA.
func (a *Authority) Signs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signsLocked()
}

func (a *Authority) setCA(ca *identity.CA) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ca = ca
}

// made returns the CA that was made here to be the mesh's next one, if that is its ID; nil
// otherwise.
func (a *Authority) made(id identity.ID) *identity.CA {
	row := a.Book.Membership().Next
	if row == nil {
		return nil
	}
	ca, err := identity.ParseCA([]byte(row.CA), []byte(row.Key))
	if err != nil {
		a.Log.Error("cannot read the CA that was made here", "err", err)
		return nil
	}
	if ca.ID() != id {
		return nil
	}
	return ca
}

// Rotate replaces the mesh's CA and returns the new root permit. What the old one signed is
// accepted for the grace; with none, it is void at once.
func (a *Authority) Rotate(ctx context.Context, grace time.Duration) (*identity.Permit, error) {
	if grace < 0 || grace > maxGrace {
		return nil, answer.Errorf(answer.BadRequest, "old certificates can be accepted for up to %d days more", maxGrace/(24*time.Hour))
	}
	a.rotateMu.Lock()
	defer a.rotateMu.Unlock()
	next, err := a.nextCA()
	if err != nil {
		return nil, err
	}
	_, err = a.issueTrust(ctx, func(t *identity.Trust, ca *identity.CA, now time.Time) (*identity.Trust, error) {
		if t.Newest() == next.ID() {
			return t, nil // the hub had it all the time: its answer to an earlier attempt was lost
		}
		if hub, ok := a.askHubTime(ctx); ok && now.Sub(hub) > MaxHubAhead {
			return nil, answer.Errorf(answer.Conflict, "this device's clock says %s and the hub's %s: set the clock first, or the new CA may be void for everybody else",
				now.UTC().Format(time.RFC3339), hub.UTC().Format(time.RFC3339))
		}
		return t.Rotate(ca, next, now.Add(grace), now)
	})
	if err != nil {
		return nil, err
	}
	return a.RootPermit()
}

// nextCA returns the CA that follows: the one of an earlier attempt, or a new one that is on disk
// when it returns.
func (a *Authority) nextCA() (*identity.CA, error) {
	ca, err := a.Signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "only an endpoint of user %s can replace the CA: %v", RootUser, err)
	}
	row := a.Book.Membership().Next
	if row != nil {
		return identity.ParseCA([]byte(row.CA), []byte(row.Key))
	}
	next, err := ca.Successor(a.Verifier.Clock().Now())
	if err != nil {
		return nil, err
	}
	return next, a.Book.Save(func(r *Row) { r.Next = &NextCA{CA: string(next.CertificatePEM()), Key: string(next.KeyPEM())} })
}

// RootPermit makes the permit that holds the mesh's CA key.
func (a *Authority) RootPermit() (*identity.Permit, error) {
	ca, err := a.Signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	return &identity.Permit{
		Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), CAKey: string(ca.KeyPEM()), Bootstraps: a.Control.Bootstraps(),
		Trust: a.Verifier.Trust().Document(),
	}, nil
}
