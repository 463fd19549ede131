package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// JoinProto is the protocol (ALPN) of a device that has no certificate of the mesh yet. It is the
// only one in which a stranger is listened to.
const JoinProto = "ztm-join/1"

// strangerLifetime is for whoever looks at the dates of a stranger's certificate; StrangerKey does
// not.
const strangerLifetime = 24 * time.Hour

// SelfSigned returns the certificate with which a stranger shows that it holds a key. It states
// nothing else.
func SelfSigned(key ed25519.PrivateKey, now time.Time) (tls.Certificate, error) {
	t, err := template(now, now, strangerLifetime)
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

// StrangerKey returns the key of a peer that agreed on [JoinProto]. The peer holds the key; nothing
// else is known of it. Dates are not looked at: the stranger has nobody yet who tells it the time.
func StrangerKey(cs tls.ConnectionState) (ed25519.PublicKey, error) {
	if cs.NegotiatedProtocol != JoinProto {
		return nil, failf(ErrProtocol, "strangers are heard in protocol %q only", JoinProto)
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
