package authority

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"net/url"

	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// invitedDevices are the devices that an invitation of a user may be for: the one of a key, or where
// it is not known yet, those of the user that were evicted. A device that was evicted a moment ago
// can come back with an invitation that is made now.
func invitedDevices(trust *identity.Trust, user string, key ed25519.PublicKey) (ids []identity.ID) {
	if key != nil {
		return []identity.ID{identity.IDOf(key)}
	}
	for _, e := range trust.Evictions() {
		if e.ID != "" && e.Owner == user {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// answerSign does what a hub asks of a holder of the CA key.
func (a *Authority) answerSign(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	if e.Sign == nil {
		return
	}
	var reply tunnel.SignAnswer
	der, err := a.sign(hub, e.Sign)
	if err != nil {
		a.PeerLog.Info("sign", "a request for a certificate was refused", "err", err)
		if identity.Explains(err) {
			err = answer.Errorf(answer.Denied, "%v", err)
		}
		reply.Refusal = answer.Public(err)
	}
	reply.Certificate = der
	if err := s.Call(a.Life, http.MethodPost, tunnel.PathSign+"/"+url.PathEscape(e.Request), nil, reply, nil); err != nil {
		a.PeerLog.Warn("hub sign", "the hub refused a certificate", "err", err)
	}
}

func (a *Authority) sign(hub identity.Subject, r *tunnel.SignRequest) ([]byte, error) {
	ca, err := a.Signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	now := a.Verifier.Clock().Now()
	if r.Join == nil {
		// For the very hub at the other end, or one that shows its certificate through it, and not
		// before it is due: a hub that is taken over gets no supply of them.
		if len(r.Of) > 0 {
			if hub, err = a.Verifier.Certificate(r.Of, identity.RoleHub); err != nil {
				return nil, err
			}
		}
		if !r.Hub || !mayRenew(hub, ca, now) {
			return nil, answer.Errorf(answer.Denied, "the hub's certificate is not due for renewal")
		}
		return ca.AdmitHub(hub.Key, hub.Admitted, now)
	}
	key := ed25519.PublicKey(r.Join.Key)
	inv, err := ca.CheckProof(r.Join.Proof, key, r.Join.Name, a.Self, now)
	if err != nil {
		return nil, err
	}
	life, err := a.life(inv.User, now)
	if err != nil {
		return nil, err
	}
	der, err := ca.LimitMember(key, inv.User, inv.Admitted, now, life)
	if err != nil {
		return nil, err
	}
	if _, err := a.Verifier.Certificate(der, identity.RoleMember); err != nil {
		return nil, err // it, or its user, was evicted since the token was made
	}
	if err := a.mayHaveName(r, identity.IDOf(key), inv.User); err != nil {
		return nil, err // the token is not spent
	}
	if err := a.approved(inv, identity.IDOf(key), r.Join.Name, now); err != nil {
		return nil, err
	}
	if err := a.Book.Redeem(inv, identity.IDOf(key), now); err != nil {
		return nil, err
	}
	if err := a.Book.NoteAdmitted(identity.IDOf(key), inv.User, inv.Admitted, now); err != nil {
		return nil, err
	}
	a.Log.Info("admitted a device with a join token", "user", inv.User, "endpoint", r.Join.Name, "id", identity.IDOf(key))
	a.Admitted(inv.User, r.Join.Name, identity.IDOf(key))
	return der, nil
}

// mayHaveName reports whether a joining device may have its name. A hub that asks for the CA key
// says what it knows of it.
func (a *Authority) mayHaveName(r *tunnel.SignRequest, id identity.ID, user string) error {
	if r.Name != nil {
		return r.Name.Check(r.Join.Name, user)
	}
	return a.nameIsFree(r.Join, id, user)
}

// nameIsFree asks the directory. The hub has the last word when the endpoint registers.
func (a *Authority) nameIsFree(join *tunnel.JoinRequest, id identity.ID, user string) error {
	ctx, cancel := context.WithTimeout(a.Life, tunnel.ProbeTimeout)
	defer cancel()
	holders, err := a.Directory.Endpoints(ctx, apps.Filter{Name: join.Name})
	if err != nil {
		return err
	}
	for _, h := range holders {
		if h.ID != id && (h.User != user || h.Online && !join.Replace) {
			return answer.Errorf(answer.Conflict, "endpoint name %s is taken by an endpoint of user %s", join.Name, h.User)
		}
	}
	return nil
}
