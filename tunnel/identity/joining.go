package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// JoinProto is the protocol (ALPN) of a device that has no certificate of the mesh yet. The
// hub listens to a joining device in this protocol only.
const JoinProto = "ztm-join/1"

// joiningLifetime is for programs that look at the dates of a joining device's certificate.
// JoiningKey does not.
const joiningLifetime = 24 * time.Hour

// SelfSigned returns the certificate with which a joining device shows that it holds a key. It
// states nothing else.
func SelfSigned(key ed25519.PrivateKey, now time.Time) (tls.Certificate, error) {
	t, err := template(now, now, joiningLifetime)
	if err != nil {
		return tls.Certificate{}, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing a certificate: %v", err)
	}
	return TLSCertificate(der, key), nil
}

// JoiningKey returns the key of a peer that agreed on [JoinProto]. The peer holds the key; nothing
// else is known of it. Dates are not looked at: a joining device may not know the time yet.
func JoiningKey(cs tls.ConnectionState) (ed25519.PublicKey, error) {
	if cs.NegotiatedProtocol != JoinProto {
		return nil, failf(ErrProtocol, "a device joins in protocol %q only", JoinProto)
	}
	cert, err := soleCertificate(cs)
	if err != nil {
		return nil, err
	}
	if !plain(cert) || cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return nil, failf(ErrUntrusted, "the certificate of a joining device must be signed by its own Ed25519 key")
	}
	return publicKey(cert), nil
}
