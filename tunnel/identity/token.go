package identity

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// A join token is a statement and a secret that only a holder of the CA's key can derive from the
// statement:
//
//	secret = HMAC-SHA256(HKDF-SHA256(CA seed, info "ztm join token v1"), statement)
//
// The text of a token is "ztmjoin1", the statement and the secret, with dots between. The latter
// two are in base64url without padding.
const (
	tokenInfo   = "ztm join token v1"
	tokenPrefix = "ztmjoin1" // one that scanners for leaked secrets can know

	nonceBytes   = 16
	maxStatement = 512 // bytes; the longest is below 300
)

// statement says what a token is good for. It has one form only, see [document.Canonical].
type statement struct {
	Mesh     ID               `json:"mesh"`
	User     string           `json:"user"`
	Admitted unixtime.Seconds `json:"admitted"`
	Expires  unixtime.Seconds `json:"expires"`
	Nonce    []byte           `json:"nonce"`
	Redeemer ID               `json:"redeemer"` // the one endpoint or hub that redeems it, and so can tell a second use

	Uses      int  `json:"uses,omitempty"`      // how many keys may redeem it; 0 is 1
	Ephemeral bool `json:"ephemeral,omitempty"` // its endpoints go when they disconnect
	Approve   bool `json:"approve,omitempty"`   // a person at the redeemer decides
	By        ID   `json:"by,omitempty"`        // the endpoint that made it
}

// MaxUses is how many keys may redeem one token, at most.
const MaxUses = 1_000_000

func parseStatement(b []byte) (*statement, error) {
	if len(b) > maxStatement {
		return nil, failf(ErrToken, "join token: statement is larger than %d bytes", maxStatement)
	}
	s := new(statement)
	if err := document.Canonical(b, s); err != nil {
		return nil, failf(ErrToken, "join token: statement: %v", err)
	}
	_, badMesh := ParseID(string(s.Mesh))
	_, badRedeemer := ParseID(string(s.Redeemer))
	_, badBy := ParseID(string(s.By))
	if s.By == "" {
		badBy = nil
	}
	badForm := CheckName(s.User) != nil || s.Uses < 0 || s.Uses == 1 || s.Uses > MaxUses || badBy != nil || len(s.Nonce) != nonceBytes || s.Admitted <= 0 || s.Expires <= 0
	if badMesh != nil || badRedeemer != nil || badForm {
		return nil, failf(ErrToken, "join token: statement is malformed")
	}
	return s, nil
}

// Token lets one device join a mesh as an endpoint of a user, once and until it expires. It is a
// secret: it shows only as JSON or text, as part of a permit. The zero value is no token. A Token
// is immutable.
type Token struct {
	t *token
}

type token struct {
	statement
	raw    []byte // the statement's bytes
	secret secret
}

// NewToken makes a token with which a device may join as an endpoint of user, until expires. The
// redeemer is the holder of this CA that will answer to it. admitted is the admission time of the
// certificate to come, see [Trust.Admission]: the token carries it so that evicting the user voids
// tokens that were not redeemed yet, too. Times count to the second.
func (ca *CA) NewToken(user string, redeemer ID, admitted, expires time.Time) (Token, error) {
	return ca.IssueToken(Invitation{User: user, Redeemer: redeemer, Admitted: admitted, Expires: expires})
}

// IssueToken makes a token as [CA.NewToken] does, for what an invitation says. Its nonce is made
// here.
func (ca *CA) IssueToken(i Invitation) (Token, error) {
	if ca == nil {
		return Token{}, ErrNoCA
	}
	if err := CheckName(i.User); err != nil {
		return Token{}, fmt.Errorf("user: %w", err)
	}
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // does not fail
	s := statement{
		Mesh: ca.mesh, User: i.User, Admitted: unixtime.Of(i.Admitted), Expires: unixtime.Of(i.Expires), Nonce: nonce, Redeemer: i.Redeemer,
		Ephemeral: i.Ephemeral, Approve: i.Approve, By: i.By,
	}
	if i.Uses > 1 {
		s.Uses = i.Uses
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return Token{}, failf(ErrToken, "join token: %v", err)
	}
	if _, err := parseStatement(raw); err != nil {
		return Token{}, err
	}
	secret, err := ca.tokenSecret(raw)
	if err != nil {
		return Token{}, err
	}
	return Token{&token{statement: s, raw: raw, secret: hide(secret)}}, nil
}

func (ca *CA) tokenSecret(statement []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, ca.private().Seed(), nil, tokenInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the token key: %v", err)
	}
	return mac(key, statement), nil
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// User returns the user a device joins as.
func (t Token) User() string { return t.get().User }

// Mesh returns the mesh the token is for.
func (t Token) Mesh() ID { return t.get().Mesh }

// Expires returns until when the token can be redeemed.
func (t Token) Expires() time.Time { return t.get().Expires.Time() }

// Redeemer returns the endpoint or hub that redeems the token.
func (t Token) Redeemer() ID { return t.get().Redeemer }

// Ephemeral reports whether the endpoint that joins goes when it disconnects.
func (t Token) Ephemeral() bool { return t.get().Ephemeral }

// Approve reports whether a person at the redeemer decides.
func (t Token) Approve() bool { return t.get().Approve }

// ID is the token's nonce, in hex. It is no secret.
func (t Token) ID() string { return hex.EncodeToString(t.get().Nonce) }

func (t Token) get() *token {
	if t.t == nil {
		return &token{}
	}
	return t.t
}

var tokenEncoding = base64.RawURLEncoding.Strict()

// MarshalText returns the token as it stands in a permit: a secret.
func (t Token) MarshalText() ([]byte, error) {
	if t.t == nil {
		return nil, failf(ErrToken, "no join token")
	}
	statement, secret := tokenEncoding.EncodeToString(t.t.raw), tokenEncoding.EncodeToString(t.t.secret())
	return []byte(tokenPrefix + "." + statement + "." + secret), nil
}

// UnmarshalText reads what [Token.MarshalText] wrote.
func (t *Token) UnmarshalText(text []byte) error {
	if len(text) > 2*maxStatement {
		return failf(ErrToken, "join token is larger than %d bytes", 2*maxStatement)
	}
	part := strings.Split(string(text), ".")
	if len(part) != 3 || part[0] != tokenPrefix {
		return failf(ErrToken, "join token is truncated or not one")
	}
	raw, err1 := tokenEncoding.DecodeString(part[1])
	secret, err2 := tokenEncoding.DecodeString(part[2])
	if err1 != nil || err2 != nil || len(secret) != sha256.Size || strings.ContainsAny(part[1]+part[2], "\r\n") {
		return failf(ErrToken, "join token is truncated or damaged")
	}
	s, err := parseStatement(raw)
	if err != nil {
		return err
	}
	t.t = &token{statement: *s, raw: raw, secret: hide(secret)}
	return nil
}

// Format writes what may be seen of a token, for every verb.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// String describes the token without its secret.
func (t Token) String() string {
	if t.t == nil {
		return "no join token"
	}
	return fmt.Sprintf("join token for user %s until %s", t.User(), unixtime.Text(t.Expires()))
}

// LogValue describes the token without its secret.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }
