package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/hex"
	"time"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// Proof shows that a device holds a token without giving the token's secret away. It crosses the
// hub. It is good for one key and one name, so a hub that carries it cannot put another key in its
// place:
//
//	MAC = HMAC-SHA256(secret, "ztm join proof v1" 00 key name)
type Proof struct {
	Statement []byte `json:"statement"`
	MAC       []byte `json:"mac"`
}

const proofContext = "ztm join proof v1"

// Prove returns the proof with which the holder of the token asks for a certificate for its key and
// for a name.
func (t Token) Prove(key ed25519.PublicKey, name string) (Proof, error) {
	if t.t == nil {
		return Proof{}, failf(ErrToken, "no join token")
	}
	message, err := proofMessage(key, name)
	if err != nil {
		return Proof{}, err
	}
	return Proof{Statement: bytes.Clone(t.t.raw), MAC: mac(t.t.secret(), message)}, nil
}

// Redeemer returns who the proof is meant for, unverified: the hub uses it to pass the proof on.
func (p Proof) Redeemer() (ID, error) {
	s, err := parseStatement(p.Statement)
	if err != nil {
		return "", err
	}
	return s.Redeemer, nil
}

// Invitation is what a verified [Proof] is good for.
type Invitation struct {
	User     string
	Admitted time.Time // goes into the certificate: with the time of now instead, the token would outlive an eviction
	Nonce    string    // of the token; the caller sees to it that it is redeemed once
	Expires  time.Time // after which the nonce need not be remembered
	Redeemer ID

	Uses      int  // how many keys may redeem the token: 1 at least
	Ephemeral bool // the endpoint goes when it disconnects
	Approve   bool // a person decides before the token is redeemed
	By        ID   // the endpoint that made the token; "" if it does not say
}

// CheckProof checks that the holder of a token of this CA asks for a certificate for key and for
// the endpoint name, and returns what to put into the certificate. self is the ID of this endpoint
// or hub, the redeemer. Errors match [ErrToken], [ErrTokenExpired] or [ErrWrongMesh].
//
// CheckProof knows neither which tokens were redeemed already nor who was evicted: the caller
// remembers the nonce, and verifies the certificate it signs before it hands it out.
func (ca *CA) CheckProof(p Proof, key ed25519.PublicKey, name string, self ID, now time.Time) (Invitation, error) {
	if ca == nil {
		return Invitation{}, ErrNoCA
	}
	s, err := parseStatement(p.Statement)
	if err != nil {
		return Invitation{}, err
	}
	message, err := proofMessage(key, name)
	if err != nil {
		return Invitation{}, err
	}
	if s.Mesh != ca.mesh {
		return Invitation{}, failf(ErrWrongMesh, "join token is for mesh %s, not %s", s.Mesh, ca.mesh)
	}
	secret, err := ca.tokenSecret(p.Statement)
	if err != nil {
		return Invitation{}, err
	}
	if !hmac.Equal(mac(secret, message), p.MAC) {
		return Invitation{}, failf(ErrToken, "join token is not valid for this device and name, or was made before the key of the mesh was replaced")
	}
	if s.Redeemer != self {
		return Invitation{}, failf(ErrToken, "join token is to be redeemed by %s, not %s", s.Redeemer, self)
	}
	invitation := Invitation{
		User:     s.User,
		Admitted: s.Admitted.Time(),
		Nonce:    hex.EncodeToString(s.Nonce),
		Expires:  s.Expires.Time(),
		Redeemer: s.Redeemer,
		Uses:     max(s.Uses, 1), Ephemeral: s.Ephemeral, Approve: s.Approve, By: s.By,
	}
	if now.After(invitation.Expires) {
		return Invitation{}, failf(ErrTokenExpired, "join token expired on %s", unixtime.Text(invitation.Expires))
	}
	return invitation, nil
}

func proofMessage(key ed25519.PublicKey, name string) ([]byte, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, failf(ErrKey, "public key has %d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return append(document.Message(proofContext, key), name...), nil
}
