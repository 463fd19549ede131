// Package gzip stands in for Go 1.26's compress/gzip in binaries where size counts: net/http can
// ask servers for compressed answers and unpack them, and each of our transports says that it must
// not ([net/http.Transport.DisableCompression]; a test looks).
//
// It is our own, and has only what net/http's source mentions.
package gzip

import (
	"errors"
	"io"
)

// ErrLeftOut is returned instead of what was compressed.
var ErrLeftOut = errors.New("gzip: left out of this build")

// Reader unpacks nothing.
type Reader struct{}

// Reset returns [ErrLeftOut].
func (*Reader) Reset(io.Reader) error { return ErrLeftOut }

// Read returns [ErrLeftOut].
func (*Reader) Read([]byte) (int, error) { return 0, ErrLeftOut }

// Close returns nil.
func (*Reader) Close() error { return nil }
