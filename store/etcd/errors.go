package etcd

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"
)

// What can go wrong beside an [Error] of etcd itself.
var (
	// ErrUnavailable: no endpoint has answered, and the request was not carried out.
	ErrUnavailable = errors.New("etcd does not answer")

	// ErrUnknown: no endpoint has answered, and the request may have been carried out, or may still be.
	ErrUnknown = errors.New("etcd does not answer, and it is not known whether the change was made")

	// ErrCompacted: a watch asked for changes that etcd has forgotten.
	ErrCompacted = errors.New("etcd has forgotten the changes since then")

	// ErrRestored: etcd was restored from a backup, and knows less than it did.
	ErrRestored = errors.New("etcd knows less than it did: it was restored from a backup")

	// ErrMoved: a watch has ended because its endpoint gives no sign of life.
	ErrMoved = errors.New("etcd is asked at another endpoint")

	// ErrEnded: a watch was ended by etcd.
	ErrEnded = errors.New("etcd has ended the watch")
)

// Codes of gRPC, as far as they are told apart.
const (
	codeUnknown         = 2
	codeTimeout         = 4
	codeExhausted       = 8
	codeUnavailable     = 14
	codeUnauthenticated = 16
)

// Error is an answer of etcd that says no.
type Error struct {
	Status  int    // of HTTP; 200 for an error in a stream
	Code    int    // of gRPC; 0 where the gateway itself refused
	Message string // for people; not to be trusted
}

// Error implements error.
func (e *Error) Error() string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, e.Message)
	if len(text) > 300 {
		text = text[:300]
	}
	hint := ""
	switch {
	case strings.Contains(e.Message, "CommonName"):
		hint = ": with users turned on, etcd wants client certificates without a common name"
	case e.Code == codeExhausted:
		hint = ": compact and defragment it, then disarm its alarm"
	}
	return fmt.Sprintf("etcd: %s (status %d, code %d)%s", text, e.Status, e.Code, hint)
}

// parseError reads an error as the gateway writes it: an object, which may be within another, or
// plain text.
func parseError(text []byte) *Error {
	var told struct {
		wireError
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(text, &told) != nil {
		return &Error{Message: string(bytes.TrimSpace(text))}
	}
	inner := told.wireError
	if inner.Message == "" && json.Unmarshal(told.Error, &inner) != nil {
		inner.Message = string(told.Error)
	}
	return inner.err()
}

// final reports whether another endpoint would say the same.
func (e *Error) final() bool {
	switch e.Code {
	case codeUnknown, codeTimeout, codeUnavailable, codeUnauthenticated:
		return false
	case 0:
		return e.Status < http.StatusInternalServerError
	}
	return true
}

// refused is an error of an attempt that has changed nothing.
type refused struct{ error }

// Unwrap returns the error that is marked.
func (r refused) Unwrap() error { return r.error }

// notSent marks an error of what comes before the request itself.
func notSent(err error) error { return refused{err} }

// mayHaveWorked reports whether a request may have been carried out that ended with an error.
func mayHaveWorked(err error) bool {
	var r refused
	var dial *net.OpError
	var cert *tls.CertificateVerificationError
	var e *Error
	switch {
	case errors.As(err, &r), errors.As(err, &cert), errors.As(err, &dial) && dial.Op == "dial":
		return false
	case errors.As(err, &e):
		return !(e.Code == codeUnavailable && strings.Contains(e.Message, "no leader"))
	}
	return true
}

// noAnswer is the error of a request for which there is no time left.
func noAnswer(again bool, last error) error {
	if again {
		return fmt.Errorf("%w: %w", ErrUnknown, last)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, last)
}
