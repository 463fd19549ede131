package authority

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	"ztm/agent/control"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// InviteHub makes a permit with which another hub of the mesh starts, for the key that the hub has
// made. names are the host:port under which agents are to reach it; the hub may name others. It
// needs the CA key and no hub.
func (a *Authority) InviteHub(key ed25519.PublicKey, names []string) (*identity.Permit, error) {
	ca, err := a.Signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "only an endpoint of user %s can invite: %v", RootUser, err)
	}
	trust, now := a.Verifier.Trust(), a.Verifier.Clock().Now()
	der, err := ca.AdmitHub(key, trust.Admission("", now, identity.IDOf(key)), now)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	return &identity.Permit{
		Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), Bootstraps: a.Control.Bootstraps(), Trust: trust.Document(),
		Hub: &identity.PermitHub{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Names: names},
	}, nil
}

// hubsOfMesh are the hubs that are known and that are not evicted, those first that answer soonest;
// those that were never met have an address alone.
func (a *Authority) hubsOfMesh() []control.Hub {
	trust := a.Verifier.Trust()
	return soonestFirst(slices.DeleteFunc(a.Control.Known(), func(h control.Hub) bool { return h.ID != "" && trust.VoidsID(h.ID, time.Time{}) }))
}

// soonestFirst sorts hubs by what stands between this endpoint and their answers: one that is silent
// holds up those after it.
func soonestFirst(hubs []control.Hub) []control.Hub {
	slices.SortStableFunc(hubs, func(x, y control.Hub) int { return cmp.Compare(distance(x), distance(y)) })
	return hubs
}

func distance(h control.Hub) int {
	switch {
	case h.Session != nil && !h.Suspect:
		return 0
	case !h.Suspect && !h.Failed:
		return 1
	}
	return 2
}

var errNotReached = errors.New("the hub cannot be reached")

// atHub asks something of a hub, on the session with it or on one for this alone. Without an answer of
// that very hub it is errNotReached.
func (a *Authority) atHub(ctx context.Context, h control.Hub, ask func(*tunnel.Session) error) error {
	if h.Session != nil {
		return ask(h.Session)
	}
	errs := []error{errNotReached}
	for _, address := range h.Addresses {
		s, met, err := a.Control.DialAt(ctx, address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if h.ID == "" || met.ID == h.ID {
			err = ask(s)
			s.Close()
			return err
		}
		s.Close()
	}
	return answer.Join(errs...)
}
