package authority

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"ztm/agent/control"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/unixtime"
)

// A certificate is renewed from two thirds of its life on, or when the mesh has another CA by now,
// for the same key, user and admission: by this endpoint itself if it holds the CA key, by another
// that does, or by any hub that keeps it. One that lasts until the access of its user ends is renewed
// only once the policy gives another end.

// ServeRenew makes a new certificate for the caller's own key, user and admission.
func (a *Authority) ServeRenew(w http.ResponseWriter, peer identity.Subject) {
	ca, err := a.Signer()
	if err != nil {
		answer.Fail(w, a.Log, answer.Errorf(answer.NotFound, "%v", err))
		return
	}
	now := a.Verifier.Clock().Now()
	if !mayRenew(peer, ca, now) {
		answer.Fail(w, a.Log, answer.Errorf(answer.Denied, "the certificate is not due for renewal"))
		return
	}
	life, err := a.life(peer.User, now)
	if err != nil {
		answer.Fail(w, a.Log, err)
		return
	}
	if !a.renewals.Take(peer.ID, time.Now()) {
		answer.Fail(w, a.Log, answer.Errorf(answer.Limit, "endpoint %s asks for certificates too often", peer.ID))
		return
	}
	der, err := ca.LimitMember(peer.Key, peer.User, peer.Admitted, now, life)
	if err != nil {
		answer.Fail(w, a.Log, err)
		return
	}
	a.Log.Info("renewed a certificate", "user", peer.User, "peer", peer.ID)
	w.Write(der)
}

// life is how long a certificate of a user may last: not beyond the end of their access.
func (a *Authority) life(user string, now time.Time) (time.Duration, error) {
	end := a.Ends(user)
	if end.IsZero() {
		return identity.MemberLifetime, nil
	}
	if !now.Before(end) {
		return 0, answer.Errorf(answer.Denied, "the access of user %s ended %s: give it another end with ztm invite --valid", user, unixtime.Text(end))
	}
	return end.Sub(now), nil
}

// mayRenew reports whether a holder of the CA key gives a new certificate to somebody: not before
// half of the old one's life, unless another CA signed it.
func mayRenew(s identity.Subject, ca *identity.CA, now time.Time) bool {
	return s.Issuer != ca.ID() || now.After(s.NotBefore.Add(s.NotAfter.Sub(s.NotBefore)/2))
}

const (
	renewEvery = time.Hour
	maxSpread  = 10 * time.Minute
)

// KeepCertificate renews this endpoint's certificate when that is due, and cuts off those whose
// certificates are no longer good.
func (a *Authority) KeepCertificate() {
	for wait := time.Duration(0); ; {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = a.renewIfDue()
		case <-a.trusted:
			wait = a.spread()
		case <-a.extended:
			wait = a.renewIfDue()
		case <-a.Life.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		a.cutStale()
		wait = min(wait, a.untilRetirement(), a.Peers.UntilExpiry(a.Verifier.Clock().Now()))
	}
}

// renewIfDue returns when to look again.
func (a *Authority) renewIfDue() time.Duration {
	s := a.Own()
	replaced := s.Issuer != a.Verifier.Trust().Newest()
	if !replaced && !a.canBeLonger(s) {
		return renewEvery
	}
	err := a.renew()
	if err == nil {
		return renewEvery
	}
	if a.Life.Err() == nil {
		a.Log.Warn("cannot renew the certificate yet", "expires", s.NotAfter, "err", err)
	}
	if replaced {
		return a.spread() + time.Second
	}
	return rand.N(renewEvery) + time.Second
}

// canBeLonger reports whether a certificate is due, and can be renewed for longer than it lasts.
func (a *Authority) canBeLonger(s identity.Subject) bool {
	now := a.Verifier.Clock().Now()
	return due(s, now) && (now.Before(s.NotBefore) || !a.lastsToEnd(s))
}

// lastsToEnd reports whether a certificate lasts until the access of its user ends: nobody makes a
// longer one.
func (a *Authority) lastsToEnd(s identity.Subject) bool {
	end := a.Ends(s.User)
	return !end.IsZero() && !s.NotAfter.Before(end)
}

// RenewBy is when this endpoint's certificate ends if it is not renewed before; zero: it lasts until the
// access of its user ends, and is not renewed.
func (a *Authority) RenewBy() time.Time {
	s := a.Own()
	if a.lastsToEnd(s) {
		return time.Time{}
	}
	return s.NotAfter
}

// PolicyApplied is called when another policy is in force here: the access of this endpoint's user may
// end later by it. The members of a mesh whose CA was replaced do not come by this, see spread.
func (a *Authority) PolicyApplied() {
	if s := a.Own(); s.Issuer != a.Verifier.Trust().Newest() || !a.canBeLonger(s) {
		return
	}
	select {
	case a.extended <- struct{}{}:
	default:
	}
}

// due reports whether it is time to renew a certificate: after two thirds of its life, or before it
// begins, which is the work of a clock that was ahead.
func due(s identity.Subject, now time.Time) bool {
	return now.Before(s.NotBefore) || !now.Before(s.NotBefore.Add(s.NotAfter.Sub(s.NotBefore)/3*2))
}

// spread returns how long to wait with a renewal after the mesh's CA was replaced. The members of a
// mesh do not all come at once; whom they come to does not wait.
func (a *Authority) spread() time.Duration {
	s, trust := a.Own(), a.Verifier.Trust()
	if s.Issuer == trust.Newest() {
		return renewEvery
	}
	if _, err := a.Signer(); err == nil {
		return 0
	}
	grace := trust.Retires(s.Issuer).Sub(a.Verifier.Clock().Now())
	return rand.N(max(min(grace/100, maxSpread), time.Second))
}

// untilRetirement returns how long it is until a CA of the mesh retires; a day if none does sooner.
func (a *Authority) untilRetirement() time.Duration {
	now := a.Verifier.Clock().Now()
	if at := a.Verifier.Trust().NextRetirement(now); !at.IsZero() {
		return min(at.Sub(now), 24*time.Hour)
	}
	return 24 * time.Hour
}

// Own is who this endpoint is by its certificate.
func (a *Authority) Own() identity.Subject {
	a.mu.Lock()
	subject := a.subject
	a.mu.Unlock()
	return subject
}

func (a *Authority) renew() error {
	der, err := a.newCertificate()
	if err != nil {
		return err
	}
	if err := a.Book.Save(func(r *Row) { r.Certificate = der }); err != nil {
		return err
	}
	if err := a.setCertificate(der); err != nil {
		return err
	}
	a.Log.Info("certificate renewed")
	a.Peers.Supersede() // peers know our sessions by the old one
	a.Control.DropStandby()
	a.Control.Publish()
	return nil
}

// newCertificate gets one from ourselves, from an endpoint that holds the CA key, or from a hub
// that keeps it.
func (a *Authority) newCertificate() ([]byte, error) {
	own := a.Own()
	if ca, err := a.Signer(); err == nil {
		return ca.SignMember(own.Key, own.User, own.Admitted, a.Verifier.Clock().Now())
	}
	ctx, cancel := context.WithTimeout(a.Life, time.Minute)
	defer cancel()
	signers, err := a.Directory.Signers(ctx)
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
	if _, _, err := a.Control.Session(ctx); err != nil { // which waits until a hub answers
		return nil, answer.Join(append(errs, err)...)
	}
	for _, h := range a.hubsOfMesh() {
		der, err := a.renewAt(ctx, h, own)
		if err == nil {
			return der, nil
		}
		errs = append(errs, fmt.Errorf("hub %s: %w", h.ID, err))
	}
	return nil, answer.Join(errs...)
}

// hubTime is what one hub may take of a renewal, however many addresses it has.
const hubTime = 10 * time.Second

// renewAt asks a hub, which may keep the CA key where the one that this endpoint is attached to does
// not.
func (a *Authority) renewAt(ctx context.Context, h control.Hub, own identity.Subject) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, hubTime)
	defer cancel()
	var reply tunnel.SignAnswer
	err := a.atHub(ctx, h, func(s *tunnel.Session) error {
		return s.Call(ctx, http.MethodPost, tunnel.PathRenew, nil, nil, &reply)
	})
	if err == nil {
		err = a.checkRenewed(reply.Certificate, own)
	}
	return reply.Certificate, err
}

// checkRenewed makes sure that what came back is ours, good as of now, and better: longer lived, of
// the newest CA, or valid where the old one is not yet. A signer whose clock is ahead makes
// certificates that nobody accepts.
func (a *Authority) checkRenewed(der []byte, own identity.Subject) error {
	s, err := a.Verifier.Certificate(der, identity.RoleMember)
	if err != nil {
		return fmt.Errorf("the new certificate: %w", err)
	}
	better := s.NotAfter.After(own.NotAfter) || s.Issuer != own.Issuer && s.Issuer == a.Verifier.Trust().Newest() ||
		a.Verifier.Clock().Now().Before(own.NotBefore)
	if s.ID != own.ID || s.User != own.User || !better {
		return fmt.Errorf("the new certificate is for endpoint %s of user %s until %s", s.ID, s.User, s.NotAfter)
	}
	return nil
}

func (a *Authority) askRenewal(ctx context.Context, signer identity.ID) ([]byte, error) {
	resp, err := a.Peers.Ask(ctx, signer, http.MethodPost, seal.PathRenew, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, 64<<10))
}
