// Package certificate says which certificate a hub shows, and when it needs another one.
//
// After a rotation of the mesh's CA the hub gets a certificate of the new one, and shows the old
// one until shortly before the old CA retires: a device that was away during the rotation knows
// only the old CA, and learns the new one here.
//
// A clock that is years ahead makes the hub renew its certificate too early, from a date in the
// future. The previous certificate is kept and shown until the new one begins.
package certificate

import (
	"crypto/ed25519"
	"crypto/tls"
	"time"

	"ztm/hub/state"
	"ztm/tunnel/identity"
)

// Shown is what a hub shows in handshakes. It does not change.
type Shown struct {
	now  tls.Certificate
	next *tls.Certificate // nil: none
	from time.Time        // when next takes its place
	last *tls.Certificate // nil: none; shown before now begins
}

// Of returns what a hub shows, by what it knows of itself.
func Of(me state.Self, key ed25519.PrivateKey) *Shown {
	s := &Shown{now: identity.TLSCertificate(me.Certificate, key)}
	if me.Next != nil {
		next := identity.TLSCertificate(me.Next.Certificate, key)
		s.next, s.from = &next, me.Next.From.Time()
	}
	if me.Last != nil {
		last := identity.TLSCertificate(me.Last, key)
		s.last = &last
	}
	return s
}

// At returns the certificate for a handshake at a time.
func (s *Shown) At(now time.Time) tls.Certificate {
	switch {
	case s.next != nil && !now.Before(s.from):
		return *s.next
	case s.last != nil && s.now.Leaf != nil && now.Before(s.now.Leaf.NotBefore):
		return *s.last
	}
	return s.now
}

// Due reports whether a certificate of a hub is to be renewed: two thirds of its lifetime are over, it
// has not begun, or it is not of the newest CA.
func Due(v *identity.Verifier, der []byte, now time.Time) bool {
	own, err := v.Inspect(der, identity.RoleHub)
	if err != nil {
		return true
	}
	return own.Issuer != v.Trust().Newest() || now.Before(own.NotBefore) || !now.Before(own.NotBefore.Add(own.NotAfter.Sub(own.NotBefore)*2/3))
}

// maxEarly is how long before the retirement of its CA a certificate is no longer shown, at most:
// clocks differ.
const maxEarly = time.Hour

// From returns when a hub begins to show the certificate that follows der: now, or shortly before the
// CA of der retires.
func From(v *identity.Verifier, der []byte, now time.Time) time.Time {
	own, err := v.Inspect(der, identity.RoleHub)
	if err != nil {
		return now
	}
	retires := v.Trust().Retires(own.Issuer)
	if !retires.After(now) {
		return now
	}
	return retires.Add(-min(retires.Sub(now)/10, maxEarly))
}
