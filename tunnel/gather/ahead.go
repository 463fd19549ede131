package gather

import (
	"io"

	"ztm/tunnel/buffer"
)

// readAhead reads as much as has come, and grows with what comes: a busy connection reads many records
// at once, one at rest holds nothing, or 4 KiB where it waits in its source. It is not safe for
// concurrent use.
type readAhead struct {
	src  io.Reader
	own  buffer.Buffer
	buf  []byte // of own
	r, w int    // what is read and not taken yet is buf[r:w]

	grows bool // not before it is known who the peer is: it holds what it sends, for as long as it likes
}

// readAheads are what a connection reads ahead into.
var readAheads = buffer.Bulk(4 << 10)

func newReadAhead(src io.Reader) readAhead {
	return readAhead{src: src, own: buffer.Buffer{Classes: readAheads()}}
}

func (a *readAhead) buffered() int { return a.w - a.r }

// peek returns the next n bytes without taking them; n is small.
func (a *readAhead) peek(n int) ([]byte, error) {
	for a.buffered() < n {
		if err := a.fill(); err != nil {
			return nil, err
		}
	}
	return a.buf[a.r : a.r+n], nil
}

// Read takes what is there; it reads only if nothing is.
func (a *readAhead) Read(p []byte) (int, error) {
	if a.buffered() == 0 {
		if err := a.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.buf[a.r:a.w])
	if a.r += n; a.r == a.w {
		a.own.Release()
		a.buf, a.r, a.w = nil, 0, 0
	}
	return n, nil
}

// fill reads once. The remainder moves to the front.
func (a *readAhead) fill() error {
	remainder := a.buf[a.r:a.w]
	a.buf = a.own.Next(remainder)
	a.r, a.w = 0, len(remainder)
	n, err := a.src.Read(a.buf[a.w:])
	a.w += n
	if a.grows {
		a.own.Filled(a.w)
	}
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
