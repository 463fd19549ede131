package authority

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"ztm/agent/control"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// How the CA of a mesh is replaced:
//
//  1. rotate       makes the next CA, on an endpoint that holds the present one, and keeps it in the database before anybody hears of it:
//     whatever happens from here on, its key is not lost
//  2. hubsAgree    all hubs that are known have the same list; arbitrate: the first of them decides between two rotations
//  3. issueTrust   takes the list that the old CA signed for the new one to the hub, and so to everyone
//  4. updateTrust  puts it in force, here as everywhere; here the CA that was made comes into use
//  5. renewIfDue   gets everybody a certificate of the new CA
//  6. cutStale     refuses and cuts, when the old CA retires, what still rests on it

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
	a.ca = ca
	a.mu.Unlock()
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
	if err := a.hubsAgree(ctx); err != nil {
		return nil, err
	}
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
				unixtime.Text(now), unixtime.Text(hub))
		}
		return t.Rotate(ca, next, now.Add(grace), now)
	})
	if err != nil {
		return nil, err
	}
	return a.RootPermit()
}

// hubsAgree reports whether all hubs that are known can be asked, have the list in force here, and hear
// each other: hubs that take two rotations make two meshes, which nobody can unite.
func (a *Authority) hubsAgree(ctx context.Context) error {
	hubs := a.hubs()
	if len(hubs) < 2 {
		return nil
	}
	own := a.Verifier.Trust().Version()
	for _, h := range hubs {
		status, _, _, err := a.Control.Measure(ctx, h)
		if err != nil {
			return answer.Errorf(answer.Unavailable, "hub %s cannot be reached, and a new key takes all hubs: wait for it or, if it is gone for good, evict it (%v)", h.ID, err)
		}
		if status.Trust != own {
			return answer.Errorf(answer.Conflict, "hub %s has version %d of the trust list and this endpoint version %d: try again in a moment", h.ID, status.Trust, own)
		}
		if others := len(hubs) - 1; status.Links < others {
			return answer.Errorf(answer.Unavailable,
				"hub %s is linked with %d of %d other hubs, and a new key takes all of them: see to it that hubs reach each other, and start each with --peers", h.ID, status.Links, others)
		}
	}
	return nil
}

// hubs are the hubs whose IDs are known and that are not evicted, in the order of their IDs.
func (a *Authority) hubs() []control.Hub {
	out := slices.DeleteFunc(a.hubsOfMesh(), func(h control.Hub) bool { return h.ID == "" })
	slices.SortFunc(out, func(x, y control.Hub) int { return strings.Compare(string(x.ID), string(y.ID)) })
	return out
}

// arbitrate offers a rotation to the hub that decides between two of them: the first of all, which
// every endpoint of root asks first. Where it has another, that one is learned.
func (a *Authority) arbitrate(ctx context.Context, list *identity.Trust) error {
	hubs := a.hubs()
	if len(hubs) < 2 || list.Newest() == a.Verifier.Trust().Newest() {
		return nil
	}
	s, _, err := a.Control.DialAt(ctx, hubs[0].Addresses[0])
	if err != nil {
		return err
	}
	defer s.Close()
	err = postTrust(ctx, s, list)
	if answer.CodeOf(err) == answer.Conflict {
		err = errors.Join(err, a.learnTrust(ctx, s))
	}
	return err
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
		Trust: a.Verifier.Trust().Document(), Policy: a.Policy(),
	}, nil
}
