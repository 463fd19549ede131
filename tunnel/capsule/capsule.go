// Package capsule reads and writes capsules (RFC 9297 section 3): how datagrams lie in the body of a request.
//
//	capsule:   type (varint) | length (varint) | value
//	datagrams: DATAGRAM …                       each with context ID 0 (RFC 9298 section 5)
//
// Varints are those of QUIC (RFC 9000 section 16). Types that are unknown are skipped. The reader holds no more than a
// header, and checks a length before it acts on it. It is not safe for concurrent use.
package capsule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// datagram is the type of the one capsule that is known here. Others are skipped (RFC 9297 section 3.2).
const datagram = 0x00

const (
	// MaxDatagram is the largest datagram, in bytes.
	MaxDatagram = 65507

	// HeaderSize is how many bytes [AppendDatagram] adds, at the most.
	HeaderSize = 6

	// maxSkipped bounds capsules of unknown types, in bytes each.
	maxSkipped = 64 << 10
)

// ErrTooLong is returned for a capsule whose length is over its limit.
var ErrTooLong = errors.New("capsule is over the limit")

// AppendDatagram appends p, of at most [MaxDatagram] bytes, as a DATAGRAM capsule with context ID 0.
func AppendDatagram(b, p []byte) []byte {
	b = append(b, datagram)
	b = binary.BigEndian.AppendUint32(b, 0x80000000|uint32(len(p)+1))
	return append(append(b, 0), p...)
}

// readVarint reads a varint. io.EOF means that the input ended before its first byte.
func readVarint(r io.Reader, scratch []byte) (uint64, error) {
	if _, err := io.ReadFull(r, scratch[:1]); err != nil {
		return 0, err
	}
	if n := 1 << (scratch[0] >> 6); n > 1 {
		if _, err := io.ReadFull(r, scratch[1:n]); err != nil {
			return 0, unexpected(err)
		}
	}
	v, _ := varint(scratch)
	return v, nil
}

// varint decodes the varint at the beginning of b, which is long enough, and returns its size.
func varint(b []byte) (v uint64, size int) {
	size = 1 << (b[0] >> 6)
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:size] {
		v = v<<8 | uint64(c)
	}
	return v, size
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Datagrams reads datagrams. Its errors are final: io.EOF where the input ends between two capsules,
// io.ErrUnexpectedEOF where it ends within one.
type Datagrams struct {
	r       io.Reader
	scratch [16]byte // what is read of a header
	whole   bool     // scratch has a header of which the value is still to be read
	err     error    // sticky
}

// NewDatagrams reads from r.
func NewDatagrams(r io.Reader) *Datagrams { return &Datagrams{r: r} }

// Begun reports whether Wait would return at once.
func (d *Datagrams) Begun() bool { return d.whole || d.err != nil }

// Wait returns when the next capsule has begun, or with the error that Read would return. Until then a reader needs no
// buffer.
func (d *Datagrams) Wait() error {
	if d.err == nil && !d.whole {
		d.err = d.fill()
		d.whole = d.err == nil
	}
	return d.err
}

// Read returns one datagram; a p that is too small cuts it, as a socket does.
func (d *Datagrams) Read(p []byte) (int, error) {
	for {
		if err := d.Wait(); err != nil {
			return 0, err
		}
		d.whole = false
		n, ok, err := d.one(p)
		if err != nil {
			d.err = err
		} else if ok {
			return n, nil
		}
	}
}

// fill reads a capsule's header and not a byte more. A flow at rest waits here, on a stack that is no deeper than it
// must be.
func (d *Datagrams) fill() error {
	for have, need := 0, headerNeeds(nil); have < need; need = headerNeeds(d.scratch[:have]) {
		n, err := d.r.Read(d.scratch[have:need])
		have += n
		switch {
		case err == nil || have >= headerNeeds(d.scratch[:have]):
		case have > 0:
			return unexpected(err)
		default:
			return err
		}
	}
	return nil
}

// headerNeeds returns how long a capsule's header is at least, in bytes, of which the first are known.
func headerNeeds(known []byte) int {
	if len(known) == 0 {
		return 2
	}
	kind := 1 << (known[0] >> 6)
	if len(known) <= kind {
		return kind + 1
	}
	return kind + 1<<(known[kind]>>6)
}

// header decodes the header that was read.
func (d *Datagrams) header() (kind, length uint64) {
	kind, n := varint(d.scratch[:])
	length, _ = varint(d.scratch[n:])
	return kind, length
}

// one reads the value of a capsule whose header was read, and reports whether it was a datagram.
func (d *Datagrams) one(p []byte) (n int, ok bool, err error) {
	kind, length := d.header()
	if length > maxSkipped+8 {
		return 0, false, fmt.Errorf("%w: %d bytes", ErrTooLong, length)
	}
	value := &io.LimitedReader{R: d.r, N: int64(length)}
	if kind == datagram {
		if n, ok, err = d.payload(value, p); err != nil {
			return 0, false, err
		}
	}
	remainder := value.N
	if skipped, err := io.Copy(io.Discard, value); err != nil || skipped < remainder {
		return 0, false, io.ErrUnexpectedEOF
	}
	return n, ok, nil
}

// payload reads the value of a DATAGRAM capsule, if its context is ours.
func (d *Datagrams) payload(value *io.LimitedReader, p []byte) (n int, ok bool, err error) {
	context, err := readVarint(value, d.scratch[:])
	if err != nil {
		return 0, false, unexpected(err)
	}
	if context != 0 {
		return 0, false, nil
	}
	n, err = io.ReadFull(value, p[:min(int64(len(p)), value.N)])
	return n, true, unexpected(err)
}
