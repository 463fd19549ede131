package identity

import (
	"errors"
	"fmt"
)

// The kinds of failure a caller may want to tell apart with [errors.Is]. The errors that are
// returned carry a text of their own that a person can act on.
var (
	ErrName         = errors.New("invalid name")                       // by the rules of CheckName
	ErrKey          = errors.New("invalid key")                        // not the PEM of an Ed25519 key
	ErrNoCA         = errors.New("the mesh's CA key is not held here") // a nil or wrong CA was asked to sign
	ErrUntrusted    = errors.New("not signed by the mesh's CA")        // a certificate or list has no valid signature
	ErrChain        = errors.New("want exactly one certificate")       // a peer showed none, or a chain
	ErrWrongMesh    = errors.New("of another mesh")                    // a certificate, list, token or permit
	ErrWrongRole    = errors.New("certificate of the wrong role")      // a member's as a hub's, or the reverse
	ErrWrongID      = errors.New("of another device")                  // the peer or permit is not the one wanted
	ErrExpired      = errors.New("certificate expired")                // by the clock that was passed
	ErrNotYetValid  = errors.New("certificate is not valid yet")       // by the clock that was passed
	ErrEvicted      = errors.New("evicted")                            // by the trust list
	ErrTrust        = errors.New("invalid trust list")                 // malformed, too large, not canonical
	ErrRollback     = errors.New("roll-back refused")                  // not newer than the list already trusted
	ErrFork         = errors.New("trust lists differ")                 // neither holds all evictions of the other
	ErrToken        = errors.New("invalid join token")                 // malformed, altered, or for another redeemer
	ErrTokenExpired = errors.New("join token expired")                 // by the clock that was passed
	ErrPermit       = errors.New("invalid permit")                     // malformed or contradicts itself
	ErrRecord       = errors.New("invalid endpoint record")            // malformed, too large, badly signed
	ErrStatement    = errors.New("invalid statement")                  // malformed, too large, badly signed
	ErrProtocol     = errors.New("wrong protocol")                     // TLS version or ALPN is not the one wanted
)

// fault is an error with a text of its own that matches one of the kinds above.
type fault struct {
	kind error
	text string
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.kind }

func failf(kind error, format string, args ...any) error {
	return &fault{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Explains reports whether err has a failure of this package in its chain: its text is about what a
// peer has shown, and may be told to it.
func Explains(err error) bool { return errors.As(err, new(*fault)) }
