package capsule

import (
	"io"
	"sync"
)

// room is where one direction reads a source into. While the source is silent it is sip bytes, for most flows are silent most of the time;
// what fills that is the beginning of more, and the next read gets a large buffer. The zero value is ready but for large; release it in
// the end. It is not safe for concurrent use.
type room struct {
	large *sync.Pool // of *[]byte
	head  int        // bytes to leave free in front of what is read

	buf  *[]byte // nil before the first read
	more bool    // the last read filled a small buffer
}

// sip is what a silent source keeps, in bytes: a request or a keystroke fits.
const sip = 1 << 10

var sips = sync.Pool{New: func() any { b := make([]byte, sip); return &b }}

// read reads once and returns the buffer up to the end of what was read, valid until the next call.
func (r *room) read(src io.Reader) (b []byte, n int, err error) {
	r.choose()
	n, err = src.Read((*r.buf)[r.head:])
	small := len(*r.buf) <= sip
	r.more = small && r.head+n == len(*r.buf) || !small && r.head+n > sip
	return (*r.buf)[:r.head+n], n, err
}

// choose takes the buffer for the next read.
func (r *room) choose() {
	if r.buf != nil && r.more == (len(*r.buf) > sip) {
		return
	}
	r.release()
	if r.more {
		r.buf = r.large.Get().(*[]byte)
	} else {
		r.buf = sips.Get().(*[]byte)
	}
}

func (r *room) release() {
	switch {
	case r.buf == nil:
	case len(*r.buf) > sip:
		r.large.Put(r.buf)
	default:
		sips.Put(r.buf)
	}
	r.buf = nil
}
