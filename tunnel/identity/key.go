package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// The PEM types that are read and written.
const (
	pemPublic      = "PUBLIC KEY"
	pemPrivate     = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// maxPEM bounds, in bytes, what is parsed as one key or certificate; ours have less than 1 KiB.
const maxPEM = 16 << 10

// NewKey makes the key of a device.
func NewKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %v", err)
	}
	return key, nil
}

// MarshalPublicKey returns the key as PEM, as `ztm identity` prints it. The key must be whole.
func MarshalPublicKey(key ed25519.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("identity: internal error: marshalling a public key: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der})
}

// ParsePublicKey reads what [MarshalPublicKey] wrote; white space around it is ignored. Errors
// match [ErrKey].
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	der, err := onePEM(text, pemPublic)
	if err != nil {
		return nil, failf(ErrKey, "public key: %v", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, failf(ErrKey, "public key: %v", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, failf(ErrKey, "public key is not an Ed25519 key")
	}
	return key, nil
}

// pkcs8 is what stands before the seed in the one form that PKCS#8 has for an Ed25519 key (RFC 8410
// section 7). crypto/x509 writes and reads the same, and brings how to sign with every other kind
// of key: on a router, a hundredth of the binary.
const pkcs8 = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"

// MarshalPrivateKey returns the key as PKCS#8 in PEM: a secret. The key must be whole.
func MarshalPrivateKey(key ed25519.PrivateKey) []byte {
	if len(key) != ed25519.PrivateKeySize {
		panic("identity: internal error: marshalling a private key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: append([]byte(pkcs8), key.Seed()...)})
}

// ParsePrivateKey reads what [MarshalPrivateKey] wrote. Errors match [ErrKey] and never quote the
// key.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	der, err := onePEM(text, pemPrivate)
	if err != nil {
		return nil, failf(ErrKey, "private key: %v", err)
	}
	seed, ok := bytes.CutPrefix(der, []byte(pkcs8))
	if !ok || len(seed) != ed25519.SeedSize {
		return nil, failf(ErrKey, "private key is damaged, or not an Ed25519 key")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// onePEM returns the content of text, which must be a single PEM block of a type and nothing but
// white space around it.
func onePEM(text []byte, typ string) ([]byte, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("larger than %d bytes", maxPEM)
	}
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("not PEM: want -----BEGIN %s-----", typ)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("PEM is truncated or damaged")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("something follows the PEM block")
	case block.Type != typ:
		return nil, fmt.Errorf("this is a %q, not a %q", block.Type, typ)
	case len(block.Headers) > 0:
		return nil, fmt.Errorf("PEM headers are not allowed")
	}
	return block.Bytes, nil
}

// marshalCertificate returns a certificate as PEM.
func marshalCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}

// parseCertificate reads one certificate from PEM.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	der, err := onePEM(text, pemCertificate)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
