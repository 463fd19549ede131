package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// A certificate is renewed from two thirds of its life on, for the same key, user and admission: by this endpoint itself if it holds the
// CA key, by another that does, or by a hub that keeps it.

// serveRenew makes a new certificate for the caller's own key, user and admission.
func (m *mesh) serveRenew(w http.ResponseWriter, peer identity.Subject) {
	if m.ca == nil {
		writeError(w, apps.Errorf(apps.NotFound, "%v", errNotSigner))
		return
	}
	now := m.agent.clock.Now()
	if !pastHalf(peer, now) {
		writeError(w, apps.Errorf(apps.Denied, "the certificate is not due for renewal"))
		return
	}
	der, err := m.ca.SignMember(peer.Key, peer.User, peer.Admitted, now)
	if err != nil {
		writeError(w, err)
		return
	}
	m.log.Info("renewed a certificate", "user", peer.User, "peer", peer.ID)
	w.Write(der)
}

// keepCertificate renews this endpoint's certificate from two thirds of its life on.
func (m *mesh) keepCertificate() {
	for {
		m.mu.Lock()
		s := m.subject
		m.mu.Unlock()
		due := s.NotBefore.Add(s.NotAfter.Sub(s.NotBefore) / 3 * 2)
		wait := renewEvery
		if !m.agent.clock.Now().Before(due) {
			if err := m.renew(); err != nil && m.life.Err() == nil {
				m.log.Warn("the certificate could not be renewed yet", "expires", s.NotAfter, "err", err)
			}
			wait = rand.N(renewEvery) + time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.life.Done():
			timer.Stop()
			return
		}
	}
}

const renewEvery = time.Hour

func (m *mesh) renew() error {
	der, err := m.newCertificate()
	if err != nil {
		return err
	}
	if err := m.save(func(r *meshRow) { r.Certificate = der }); err != nil {
		return err
	}
	if err := m.setCertificate(der); err != nil {
		return err
	}
	m.log.Info("certificate renewed")
	m.publish()
	return nil
}

// newCertificate gets one from ourselves, from an endpoint that holds the CA key, or from a hub that keeps it.
func (m *mesh) newCertificate() ([]byte, error) {
	m.mu.Lock()
	own := m.subject
	m.mu.Unlock()
	if m.ca != nil {
		return m.ca.SignMember(own.Key, own.User, own.Admitted, m.agent.clock.Now())
	}
	ctx, cancel := context.WithTimeout(m.life, time.Minute)
	defer cancel()
	signers, err := m.signers(ctx)
	errs := []error{err}
	for _, e := range signers {
		der, err := m.askRenewal(ctx, e.ID)
		if err == nil {
			return der, m.checkRenewed(der, own)
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.Name, err))
	}
	var der []byte
	if err := m.hubCall(ctx, http.MethodPost, tunnel.PathRenew, nil, nil, &der); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	return der, m.checkRenewed(der, own)
}

// checkRenewed makes sure that what came back is ours and longer lived.
func (m *mesh) checkRenewed(der []byte, own identity.Subject) error {
	s, err := m.verifier.Inspect(der, identity.RoleMember)
	if err != nil {
		return err
	}
	if s.ID != own.ID || s.User != own.User || !s.NotAfter.After(own.NotAfter) {
		return fmt.Errorf("the new certificate is for endpoint %s of user %s until %s", s.ID, s.User, s.NotAfter)
	}
	return nil
}

func (m *mesh) askRenewal(ctx context.Context, signer identity.ID) ([]byte, error) {
	resp, err := m.ask(ctx, signer, http.MethodPost, "/renew", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, 64<<10))
}
