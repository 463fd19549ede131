package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
)

// ID names an endpoint (or hub, or mesh) by its public key: the first 20 bytes of the SHA-256 of
// the raw Ed25519 public key, in lower-case base32 (RFC 4648 section 6) without padding: 32
// characters. Nobody can claim an ID without holding the key. The zero value is no ID.
type ID string

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const idBytes = 20

// IDOf returns the ID of a public key.
func IDOf(key ed25519.PublicKey) ID {
	sum := sha256.Sum256(key)
	return ID(idEncoding.EncodeToString(sum[:idBytes]))
}

// ParseID checks that s is an ID. An ID has one form only: base32 decoders by themselves skip line
// ends and odd rests.
func ParseID(s string) (ID, error) {
	if b, err := idEncoding.DecodeString(s); err != nil || len(b) != idBytes || idEncoding.EncodeToString(b) != s {
		return "", fmt.Errorf("%q is not an ID: want 32 characters a-z, 2-7", s)
	}
	return ID(s), nil
}
