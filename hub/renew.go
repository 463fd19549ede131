package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"ztm/hub/certificate"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// The hub's own certificate, and those that it makes if it keeps the CA key. Package certificate says
// which is shown, and when another is due.

func (s *server) setCertificate(me state.Self) {
	s.certificate.Store(certificate.Of(me, s.key))
	if own, err := s.verifier.Inspect(s.shown(), identity.RoleHub); err == nil {
		s.verifier.SetOwn(own)
	}
}

// presented is the certificate for a handshake.
func (s *server) presented() tls.Certificate {
	return s.certificate.Load().At(s.verifier.Clock().Now())
}

// renewAgain is how soon a hub tries again to renew its certificate.
const renewAgain = time.Minute

// renew gets the hub a new certificate when two thirds of the lifetime are over, or when the CA was
// replaced. It signs with the CA key that the hub keeps, or asks a root endpoint that is online. Where
// that failed it returns when to try again.
func (s *server) renew(ctx context.Context) (again <-chan time.Time) {
	me, _, err := s.state.Self()
	if err != nil {
		s.log.Error("cannot read what the hub knows of itself", "err", err)
		return nil
	}
	now := s.verifier.Clock().Now()
	if me.Next != nil && unixtime.Of(now) >= me.Next.From {
		me.Certificate, me.Next, me.Last = me.Next.Certificate, nil, me.Certificate
	}
	newest := me.Certificate
	if me.Next != nil {
		newest = me.Next.Certificate
	}
	if !certificate.Due(s.verifier, newest, now) {
		return nil
	}
	der, err := s.ownCertificate(ctx, now)
	if err == nil {
		err = s.verifyNew(der, identity.RoleHub, s.id)
	}
	if err == nil && certificate.Due(s.verifier, der, now) {
		err = answer.Errorf(answer.Unavailable, "the endpoint that was asked has not heard yet that the CA was replaced")
	}
	if err != nil {
		s.refusals.Warn("renew", "cannot renew the certificate of the hub yet", "err", err)
		return time.After(s.config.renewAgain)
	}
	if from := certificate.From(s.verifier, me.Certificate, now); from.After(now) {
		me.Next = &state.Next{Certificate: der, From: unixtime.Of(from)}
	} else {
		me.Certificate, me.Next, me.Last = der, nil, s.shown()
	}
	err = s.state.Change(func(kept *state.Self) { kept.Certificate, kept.Next, kept.Last = me.Certificate, me.Next, me.Last })
	if err != nil {
		s.log.Error("cannot save the hub's certificate", "err", err)
		return nil
	}
	s.setCertificate(me)
	s.links.Renewed()
	s.log.Info("the hub's certificate was renewed")
	return nil
}

// shown returns the certificate that the hub shows now, in DER.
func (s *server) shown() []byte { return s.presented().Certificate[0] }

// untilRetirement returns how long it is until a CA of the mesh retires; a day if none does sooner.
func (s *server) untilRetirement() time.Duration {
	now := s.verifier.Clock().Now()
	if at := s.verifier.Trust().NextRetirement(now); !at.IsZero() {
		return min(at.Sub(now), 24*time.Hour)
	}
	return 24 * time.Hour
}

func (s *server) ownCertificate(ctx context.Context, now time.Time) ([]byte, error) {
	if s.maySign() == nil {
		return s.ca.SignHub(publicKey(s.key), now)
	}
	if signer := s.sessions.signer(); signer != nil {
		return s.signers.ask(ctx, signer, tunnel.SignRequest{Hub: true})
	}
	return s.askElsewhere(ctx)
}

// askElsewhere has another hub ask a root endpoint that is attached there: agents have sessions with
// two hubs, and there may be more.
func (s *server) askElsewhere(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	var last error = answer.Errorf(answer.Unavailable, "no endpoint that holds the CA key is online")
	end, _ := ctx.Deadline()
	all := s.directory.Signers(identity.RootUser)
	for i, id := range all {
		ctx, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(all)-i)) // one that sleeps takes no time from the next
		der, asked, err := s.links.Sign(ctx, id, tunnel.SignRequest{Hub: true, Of: s.shown()})
		cancel()
		if asked && err == nil {
			return der, nil
		}
		if asked {
			last = err
		}
	}
	return nil, last
}

// verifyNew verifies a certificate that was made for an ID.
func (s *server) verifyNew(der []byte, role identity.Role, id identity.ID) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	sub, err := s.verifier.Trust().Verify(cert, role, s.verifier.Clock().Now())
	if err == nil && sub.ID != id {
		err = errors.New("the certificate is for another key")
	}
	return err
}

// postRenew is POST /v1/renew: a hub that keeps the CA key gives a member a fresh certificate, for
// the key, the user and the admission time of the one it has.
func (s *server) postRenew(w http.ResponseWriter, _ *http.Request, p *peer, _ string) error {
	if err := s.maySign(); err != nil {
		return err
	}
	now := s.verifier.Clock().Now()
	if p.Issuer == s.ca.ID() && now.Before(p.NotBefore.Add(p.NotAfter.Sub(p.NotBefore)/2)) {
		return answer.Errorf(answer.Conflict, "the certificate is good until %s: too early to renew it", unixtime.Text(p.NotAfter))
	}
	if p.Limited { // the hub knows no policy, and so not whether the end was moved
		return answer.Errorf(answer.Denied, "the certificate lasts until the access of user %s ends: only an endpoint of root that holds the CA key renews it", p.User)
	}
	der, err := s.ca.SignMember(p.Key, p.User, p.Admitted, now)
	if err != nil {
		return err
	}
	return writeJSON(w, tunnel.SignAnswer{Certificate: der})
}
