package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// A certificate is renewed from two thirds of its life on, or when the mesh has another CA by now, for the same key, user and admission:
// by this endpoint itself if it holds the CA key, by another that does, or by a hub that keeps it.

// serveRenew makes a new certificate for the caller's own key, user and admission.
func (a *authority) serveRenew(w http.ResponseWriter, peer identity.Subject) {
	ca, err := a.signer()
	if err != nil {
		answer.Fail(w, a.log, answer.Errorf(answer.NotFound, "%v", err))
		return
	}
	now := a.verifier.Clock().Now()
	if !mayRenew(peer, ca, now) {
		answer.Fail(w, a.log, answer.Errorf(answer.Denied, "the certificate is not due for renewal"))
		return
	}
	if !a.renewals.Take(peer.ID, time.Now()) {
		answer.Fail(w, a.log, answer.Errorf(answer.Limit, "endpoint %s asks for certificates too often", peer.ID))
		return
	}
	der, err := ca.SignMember(peer.Key, peer.User, peer.Admitted, now)
	if err != nil {
		answer.Fail(w, a.log, err)
		return
	}
	a.log.Info("renewed a certificate", "user", peer.User, "peer", peer.ID)
	w.Write(der)
}

// mayRenew reports whether a holder of the CA key gives a new certificate to somebody: not before half of the old one's life, unless
// another CA signed it.
func mayRenew(s identity.Subject, ca *identity.CA, now time.Time) bool {
	return s.Issuer != ca.ID() || now.After(s.NotBefore.Add(s.NotAfter.Sub(s.NotBefore)/2))
}

const (
	renewEvery = time.Hour
	maxSpread  = 10 * time.Minute
)

// keepCertificate renews this endpoint's certificate when that is due, and cuts off those whose certificates are no longer good.
func (a *authority) keepCertificate() {
	for wait := time.Duration(0); ; {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = a.renewIfDue()
		case <-a.trusted:
			wait = a.spread()
		case <-a.life.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		a.cutStale()
		wait = min(wait, a.untilRetirement(), a.peers.UntilExpiry(a.verifier.Clock().Now()))
	}
}

// renewIfDue returns when to look again.
func (a *authority) renewIfDue() time.Duration {
	s := a.own()
	replaced := s.Issuer != a.verifier.Trust().Newest()
	if !replaced && !due(s, a.verifier.Clock().Now()) {
		return renewEvery
	}
	err := a.renew()
	if err == nil {
		return renewEvery
	}
	if a.life.Err() == nil {
		a.log.Warn("cannot renew the certificate yet", "expires", s.NotAfter, "err", err)
	}
	if replaced {
		return a.spread() + time.Second
	}
	return rand.N(renewEvery) + time.Second
}

// due reports whether it is time to renew a certificate: after two thirds of its life, or before it begins, which is the work of a
// clock that was ahead.
func due(s identity.Subject, now time.Time) bool {
	return now.Before(s.NotBefore) || !now.Before(s.NotBefore.Add(s.NotAfter.Sub(s.NotBefore)/3*2))
}

// spread returns how long to wait with a renewal after the mesh's CA was replaced. The members of a mesh do not all come at once; whom
// they come to does not wait.
func (a *authority) spread() time.Duration {
	s, trust := a.own(), a.verifier.Trust()
	if s.Issuer == trust.Newest() {
		return renewEvery
	}
	if _, err := a.signer(); err == nil {
		return 0
	}
	grace := trust.Retires(s.Issuer).Sub(a.verifier.Clock().Now())
	return rand.N(max(min(grace/100, maxSpread), time.Second))
}

// untilRetirement returns how long it is until a CA of the mesh retires; a day if none does sooner.
func (a *authority) untilRetirement() time.Duration {
	now := a.verifier.Clock().Now()
	if at := a.verifier.Trust().NextRetirement(now); !at.IsZero() {
		return min(at.Sub(now), 24*time.Hour)
	}
	return 24 * time.Hour
}

// own is who this endpoint is by its certificate.
func (a *authority) own() identity.Subject {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.subject
}

func (a *authority) renew() error {
	der, err := a.newCertificate()
	if err != nil {
		return err
	}
	if err := a.book.save(func(r *meshRow) { r.Certificate = der }); err != nil {
		return err
	}
	if err := a.setCertificate(der); err != nil {
		return err
	}
	a.log.Info("certificate renewed")
	a.peers.Supersede() // peers know our sessions by the old one
	a.control.DropStandby()
	a.control.Publish()
	return nil
}

// newCertificate gets one from ourselves, from an endpoint that holds the CA key, or from a hub that keeps it.
func (a *authority) newCertificate() ([]byte, error) {
	own := a.own()
	if ca, err := a.signer(); err == nil {
		return ca.SignMember(own.Key, own.User, own.Admitted, a.verifier.Clock().Now())
	}
	ctx, cancel := context.WithTimeout(a.life, time.Minute)
	defer cancel()
	signers, err := a.mesh.signers(ctx)
	errs := []error{err}
	for _, e := range signers {
		der, err := a.askRenewal(ctx, e.ID)
		if err == nil {
			err = a.checkRenewed(der, own)
		}
		if err == nil {
			return der, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.Name, err))
	}
	var der []byte
	err = a.control.Call(ctx, http.MethodPost, tunnel.PathRenew, nil, nil, &der)
	if err == nil {
		err = a.checkRenewed(der, own)
	}
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	return der, nil
}

// checkRenewed makes sure that what came back is ours, good as of now, and better: longer lived, of the newest CA, or valid where the
// old one is not yet. A signer whose clock is ahead makes certificates that nobody accepts.
func (a *authority) checkRenewed(der []byte, own identity.Subject) error {
	s, err := a.verifier.Certificate(der, identity.RoleMember)
	if err != nil {
		return fmt.Errorf("the new certificate: %w", err)
	}
	better := s.NotAfter.After(own.NotAfter) || s.Issuer != own.Issuer && s.Issuer == a.verifier.Trust().Newest() ||
		a.verifier.Clock().Now().Before(own.NotBefore)
	if s.ID != own.ID || s.User != own.User || !better {
		return fmt.Errorf("the new certificate is for endpoint %s of user %s until %s", s.ID, s.User, s.NotAfter)
	}
	return nil
}

func (a *authority) askRenewal(ctx context.Context, signer identity.ID) ([]byte, error) {
	resp, err := a.peers.Ask(ctx, signer, http.MethodPost, seal.PathRenew, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, 64<<10))
}
