package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"
)

// Verifier is what TLS configurations consult to verify peers: the trust that is in force, and the
// clock. All methods may be called from any goroutine.
type Verifier struct {
	trust  atomic.Pointer[Trust]
	clock  *Clock
	own    atomic.Pointer[Subject] // nil until SetOwn
	newest atomic.Pointer[Subject] // of the peers that were good, the one whose certificate began last; nil: none yet
}

// NewVerifier makes a verifier with a trust in force, see [Verifier.Set].
func NewVerifier(t *Trust, c *Clock) *Verifier {
	v := &Verifier{clock: c}
	v.Set(t)
	return v
}

// Trust returns the trust in force.
func (v *Verifier) Trust() *Trust { return v.trust.Load() }

// Clock returns the clock that peers are verified by.
func (v *Verifier) Clock() *Clock { return v.clock }

// Set puts a trust in force for all handshakes from now on, unless one of a later version is in force
// already. Running sessions are for the caller to verify again, see [Verifier.Subject]. On a device
// whose own time is plainly wrong the clock's floor rises to when the trust was issued, see
// [Clock.Hint], once the verifier knows the device's certificate.
func (v *Verifier) Set(t *Trust) {
	for {
		old := v.trust.Load()
		if old != nil && (old == t || old.Version() > t.Version()) {
			return
		}
		if v.trust.CompareAndSwap(old, t) {
			v.hint()
			return
		}
	}
}

// SetOwn tells the verifier who the device itself is, by its certificate: when it starts and after
// each renewal.
func (v *Verifier) SetOwn(s Subject) {
	v.own.Store(&s)
	v.hint()
}

func (v *Verifier) hint() {
	if own := v.own.Load(); own != nil {
		v.clock.Hint(v.Trust().Issued(), own.NotAfter)
	}
}

// Floor returns the time to keep as the floor of the clock for the next start, by the rule of
// [Floor]. There is none before [Verifier.SetOwn], nor before the first peer was good.
func (v *Verifier) Floor() (floor time.Time, ok bool) {
	own, peer := v.own.Load(), v.newest.Load()
	if own == nil || peer == nil {
		return time.Time{}, false
	}
	return Floor(v.clock.Now(), *own, *peer)
}

// saw notes a peer that was good, for [Verifier.Floor]. A device that talks to itself is no
// witness.
func (v *Verifier) saw(s Subject) {
	if own := v.own.Load(); own != nil && own.ID == s.ID {
		return
	}
	for {
		old := v.newest.Load()
		if old != nil && !s.NotBefore.After(old.NotBefore) {
			return
		}
		if v.newest.CompareAndSwap(old, &s) {
			return
		}
	}
}

// Subject returns who the peer of a TLS connection is, verified by the trust and the time of now,
// not those of the handshake. The peer must have shown exactly one certificate: with more, somebody
// might look at another than we do.
func (v *Verifier) Subject(cs tls.ConnectionState, role Role) (Subject, error) {
	cert, err := soleCertificate(cs)
	if err != nil {
		return Subject{}, err
	}
	return v.judge(cert, role)
}

// judge verifies the certificate of a peer as of now. A device whose own time is plainly wrong takes
// the time at which it was signed, see [Clock.Hint]: what has ended by then does not come back, and
// the peer is not refused as one of the future. Only the newest CA counts, whose key nobody has stolen
// yet.
func (v *Verifier) judge(cert *x509.Certificate, role Role) (Subject, error) {
	trust := v.Trust()
	s, err := trust.inspect(cert, role)
	if err != nil {
		return Subject{}, err
	}
	if own := v.own.Load(); own != nil && own.ID != s.ID && s.Issuer == trust.Newest() {
		v.clock.Hint(s.NotBefore.Add(setBack), own.NotAfter)
	}
	if err := trust.Reverify(s, v.clock.Now()); err != nil {
		return Subject{}, err
	}
	v.saw(s)
	return s, nil
}

// ClientConfig returns a configuration for dialling a hub or a member. cert is one's own
// certificate, or a [SelfSigned] one to join. want is the ID the peer must have; "" takes any peer
// of the role. One of the protocols must be agreed on, if any are given. The caller may change the
// result.
func (v *Verifier) ClientConfig(cert tls.Certificate, role Role, want ID, protos ...string) *tls.Config {
	c := config(protos)
	c.InsecureSkipVerify = true // names and chains are not how we verify: VerifyConnection does
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := checkProtocol(cs, protos); err != nil {
			return err
		}
		s, err := v.Subject(cs, role)
		if err != nil {
			return err
		}
		if want != "" && s.ID != want {
			return failf(ErrWrongID, "peer is %s, not %s", s.ID, want)
		}
		return nil
	}
	return c
}

// HubProto and HopProto are the protocols (ALPN) between the hubs of a mesh: a link, and a path that
// one hub passes on to another. A peer that agrees on one of them must be a hub.
const (
	HubProto = "ztm-hub/1"
	HopProto = "ztm-hop/1"
)

// RoleIn returns the role that a peer must have that dialled and agreed on a protocol.
func RoleIn(proto string) Role {
	if proto == HubProto || proto == HopProto {
		return RoleHub
	}
	return RoleMember
}

// ServerConfig returns a configuration for being dialled by members, by joining devices where the
// protocols contain [JoinProto], and by hubs where they contain [HubProto] or [HopProto]. The
// protocol that was agreed on says which of them the peer must be: see [RoleIn]. cert is called for
// each handshake. One of the protocols must be agreed on, if any are given. The caller may change
// the result.
func (v *Verifier) ServerConfig(cert func() tls.Certificate, protos ...string) *tls.Config {
	c := config(protos)
	c.ClientAuth = tls.RequireAnyClientCert // of which VerifyConnection says whether it will do
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		own := cert()
		return &own, nil
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := checkProtocol(cs, protos); err != nil {
			return err
		}
		if cs.NegotiatedProtocol == JoinProto {
			_, err := JoiningKey(cs)
			return err
		}
		_, err := v.Subject(cs, RoleIn(cs.NegotiatedProtocol))
		return err
	}
	return c
}

// config returns what both ends have in common. The curves are Go's own choice, which begins with
// X25519MLKEM768. VerifyConnection runs for resumed sessions too; there are none all the same.
func config(protos []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             slices.Clone(protos),
		SessionTicketsDisabled: true,
	}
}

// checkProtocol checks that one of our protocols was agreed on: TLS goes on without one if only one
// side names any.
func checkProtocol(cs tls.ConnectionState, protos []string) error {
	if cs.Version != tls.VersionTLS13 {
		return failf(ErrProtocol, "peer does not speak TLS 1.3")
	}
	if len(protos) > 0 && !slices.Contains(protos, cs.NegotiatedProtocol) {
		return failf(ErrProtocol, "peer speaks protocol %q, want one of %q", cs.NegotiatedProtocol, protos)
	}
	return nil
}

func soleCertificate(cs tls.ConnectionState) (*x509.Certificate, error) {
	if n := len(cs.PeerCertificates); n != 1 {
		return nil, failf(ErrChain, "peer showed %d certificates, want exactly one", n)
	}
	return cs.PeerCertificates[0], nil
}

// TLSCertificate joins a certificate and its key for use in a TLS configuration. A handshake with a
// certificate that cannot be parsed fails at the peer.
func TLSCertificate(der []byte, key ed25519.PrivateKey) tls.Certificate {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		leaf = nil
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Certificate reads a certificate of the mesh and verifies it as of now, as [Trust.Verify] does. It
// is for a certificate that somebody made for this device, before it takes the place of an older
// one.
func (v *Verifier) Certificate(der []byte, role Role) (Subject, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Subject{}, failf(ErrUntrusted, "certificate: %v", err)
	}
	return v.Trust().Verify(cert, role, v.clock.Now())
}

// Inspect reads a certificate of the mesh and checks all but time and evictions: form, signature,
// role and identity. It is for one's own certificate: a device whose clock is wrong, or whose user
// was evicted, still has to know who it is. Peers are verified by [Verifier.Subject] and
// [Trust.Verify].
func (v *Verifier) Inspect(der []byte, role Role) (Subject, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Subject{}, failf(ErrUntrusted, "certificate: %v", err)
	}
	return v.Trust().inspect(cert, role)
}
