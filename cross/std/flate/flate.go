// Package flate stands in for Go 1.26's compress/flate in binaries where size counts: without
// compress/gzip nobody unpacks anything, and only a type's name is left in net/http's source.
package flate

import "io"

// Reader is what is best unpacked from.
type Reader interface {
	io.Reader
	io.ByteReader
}
