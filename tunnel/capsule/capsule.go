// Package capsule reads and writes capsules (RFC 9297 section 3): what a flow is made of inside the
// body of a request.
//
//	capsule:   type (varint) | length (varint) | value
//	stream:    DATA … DATA FINAL_DATA                  (draft-ietf-httpbis-connect-tcp-11 section 4.2)
//	           DATA … DATA MOVED                        goes on elsewhere, see package flow
//	datagrams: DATAGRAM …                               each with context ID 0 (RFC 9298 section 5)
//
// Varints are those of QUIC (RFC 9000 section 16). Types that are unknown are skipped. The readers
// hold no more than a header, and check a length before they act on it. They are not safe for
// concurrent use.
package capsule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"ztm/tunnel/buffer"
)

// Type is the type of a capsule. Unknown ones are skipped (RFC 9297 section 3.2).
type Type uint64

// The types.
const (
	Datagram  Type = 0x00
	Data      Type = 0x2028d7f0 // "DATA-08", provisional
	FinalData Type = 0x2028d7f1 // "FINAL_DATA-08", provisional
	Moved     Type = 0x3a746d01 // ours: this direction goes on in the flow's dedicated connection
)

const (
	// HeaderSize is the size of the header that [PutHeader] writes, in bytes: type and length, each
	// a varint of four bytes, so that its place can be kept free before the length is known.
	HeaderSize = 8

	// MaxDatagram is the largest datagram, in bytes.
	MaxDatagram = 65507

	// maxData is the longest value of data that is read, in bytes. It is handed on as it comes, so
	// it costs no memory; the limit bounds how long a sender can be mute about the end.
	maxData = 1<<30 - 1

	// maxSkipped bounds capsules of unknown types, in bytes each.
	maxSkipped = 64 << 10

	// chunk is what WriteTo reads at a time, in bytes.
	chunk = 32 << 10
)

var (
	// ErrMoved is how a [Stream] ends at MOVED.
	ErrMoved = errors.New("the flow has moved")

	// ErrTooLong is returned for a capsule whose length is over its limit.
	ErrTooLong = errors.New("capsule is over the limit")
)

// buffers are of size chunk. A reader holds one only while data comes.
var buffers = buffer.NewClasses(chunk)

// PutHeader writes a header to the first [HeaderSize] bytes of b. n is the length of the value,
// less than 1<<30.
func PutHeader(b []byte, t Type, n int) {
	binary.BigEndian.PutUint32(b, 0x80000000|uint32(t))
	binary.BigEndian.PutUint32(b[4:], 0x80000000|uint32(n))
}

// AppendDatagram appends p, of at most [MaxDatagram] bytes, as a DATAGRAM capsule with context ID
// 0.
func AppendDatagram(b, p []byte) []byte {
	b = append(b, byte(Datagram))
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

// input reads headers.
type input struct {
	r       io.Reader
	scratch [16]byte // what is read of a header
	err     error    // sticky
}

// fill reads a capsule's header and not a byte more. A flow at rest waits here, on a stack that is
// no deeper than it must be.
func (in *input) fill() error {
	for have, need := 0, headerNeeds(nil); have < need; need = headerNeeds(in.scratch[:have]) {
		n, err := in.r.Read(in.scratch[have:need])
		have += n
		if err != nil && have < headerNeeds(in.scratch[:have]) {
			return err
		}
	}
	return nil
}

// headerNeeds returns how long a capsule's header is at least, in bytes, of which the first are
// known.
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
func (in *input) header() (kind, length uint64) {
	kind, n := varint(in.scratch[:])
	length, _ = varint(in.scratch[n:])
	return kind, length
}

// Stream reads the bytes of a stream. Its errors are final: io.EOF after FINAL_DATA, [ErrMoved]
// after MOVED, io.ErrUnexpectedEOF where the input ends before either.
type Stream struct {
	input
	left  uint64 // bytes of the current data not yet read
	final bool   // the current data is the last
}

// NewStream reads from r.
func NewStream(r io.Reader) *Stream { return &Stream{input: input{r: r}} }

// next moves to the next capsule that has data.
func (s *Stream) next() error {
	for s.err == nil && s.left == 0 {
		if s.final {
			s.err = io.EOF
			break
		}
		if s.err = s.fill(); s.err == nil {
			s.err = s.begin()
		}
		s.err = unexpected(s.err)
	}
	return s.err
}

// begin acts on the header that was read.
func (s *Stream) begin() error {
	kind, length := s.header()
	switch Type(kind) {
	case Data, FinalData:
		if length > maxData {
			return fmt.Errorf("%w: %d bytes", ErrTooLong, length)
		}
		s.left, s.final = length, Type(kind) == FinalData
		return nil
	case Moved:
		if length != 0 {
			return fmt.Errorf("%w: MOVED with %d bytes", ErrTooLong, length)
		}
		return ErrMoved
	}
	if length > maxSkipped {
		return fmt.Errorf("%w: %d bytes of unknown type %#x", ErrTooLong, length, kind)
	}
	_, err := io.CopyN(io.Discard, s.r, int64(length))
	return err
}

// Read returns data of the current capsule.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.next(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p[:min(uint64(len(p)), s.left)])
	s.left -= uint64(n)
	if err != nil && (err != io.EOF || s.left > 0 || !s.final) {
		s.err = unexpected(err)
		if n > 0 {
			return n, nil
		}
		return 0, s.err
	}
	return n, nil
}

// WriteTo writes the data to w until the stream ends; nil stands for io.EOF. It waits for a
// capsule's header with eight bytes in hand and takes a buffer only when data is there. If w fails,
// the stream may be read on.
func (s *Stream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := s.next(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := s.writeData(w)
		total += n
		if err != nil {
			return total, err
		}
	}
}

func (s *Stream) writeData(w io.Writer) (total int64, err error) {
	p := buffers.Get(chunk)
	defer buffers.Put(p)
	buf := *p
	for s.left > 0 {
		n, rerr := s.Read(buf)
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if rerr != nil {
			return total, rerr
		}
	}
	return total, nil
}

// Datagrams reads datagrams. Its errors are final: io.EOF after FINAL_DATA, io.ErrUnexpectedEOF
// where the input ends before that.
type Datagrams struct{ input }

// NewDatagrams reads from r.
func NewDatagrams(r io.Reader) *Datagrams { return &Datagrams{input{r: r}} }

// Read returns one datagram; a p that is too small cuts it, as a socket does.
func (d *Datagrams) Read(p []byte) (int, error) {
	for {
		if d.err != nil {
			return 0, d.err
		}
		n, ok, err := d.one(p)
		if err != nil {
			d.err = err
		} else if ok {
			return n, nil
		}
	}
}

// one reads one capsule and reports whether it was a datagram.
func (d *Datagrams) one(p []byte) (n int, ok bool, err error) {
	if err := d.fill(); err != nil {
		return 0, false, unexpected(err)
	}
	kind, length := d.header()
	if Type(kind) == FinalData && length == 0 {
		return 0, false, io.EOF
	}
	if length > maxSkipped+8 {
		return 0, false, fmt.Errorf("%w: %d bytes", ErrTooLong, length)
	}
	value := &io.LimitedReader{R: d.r, N: int64(length)}
	if Type(kind) == Datagram {
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
