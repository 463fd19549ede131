// Package capsule carries one flow in the two bodies of one HTTP/2 request, by the capsule protocol (RFC 9297 section 3).
//
// A byte stream is sent as DATA and FINAL_DATA capsules (draft-ietf-httpbis-connect-tcp-11 section 4.2), so that each
// direction ends by itself: net/http cannot half-close a response. A body that ends without FINAL_DATA was cut off, and
// its reader gets [io.ErrUnexpectedEOF]. Datagrams are sent as DATAGRAM capsules with context ID 0 (RFC 9298 section 5).
//
//	entrance                                                      exit
//	Write, ReadFrom -> request body  -> DATA … FINAL_DATA ->  Read, WriteTo
//	Read, WriteTo   <- response body <- DATA … FINAL_DATA <-  Write, ReadFrom
//
// There is no queue in here: what is not read stays in HTTP/2's windows, and a reader that stops makes the writer stop.
package capsule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Frame is the size of the HTTP/2 DATA frames that carry a busy flow from the exit to the entrance, in bytes: with its own header of nine
// bytes (RFC 9113 section 4.1) a frame fills exactly two TLS records. In the other direction they are requestFrame, one TLS record: net/http
// keeps a buffer of the size that the exit allows for each open flow, idle or not.
const (
	Frame        = 2*16384 - 9
	requestFrame = 16384 - 9
)

// Capsule types. Unknown ones are skipped (RFC 9297 section 3.2).
const (
	typeDatagram  = 0x00
	typeData      = 0x2028d7f0 // "DATA-08", provisional
	typeFinalData = 0x2028d7f1 // "FINAL_DATA-08", provisional
	typeMoved     = 0x3a746d01 // ours: this direction goes on in the flow's lane
)

const (
	// dataHeader is the size of the header we write before data: type and length, each a varint of four bytes, so that
	// its place can be kept free before the length is known.
	dataHeader = 8

	// maxCapsule is the largest capsule we read, in bytes. Data is handed on as it comes, so it costs no memory; the
	// limit only bounds how long a sender can be mute about the end.
	maxCapsule = 1<<30 - 1

	// maxSkipped bounds capsules of unknown types, in bytes each.
	maxSkipped = 64 << 10

	// chunk is the size of a buffer, header included.
	chunk = Frame

	maxDatagram = 65507
)

// buffers are of size chunk. A flow holds one only while it writes.
var buffers = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

func putDataHeader(b []byte, capsule uint32, n int) {
	binary.BigEndian.PutUint32(b, 0x80000000|capsule)
	binary.BigEndian.PutUint32(b[4:], 0x80000000|uint32(n))
}

// readVarint reads a QUIC varint (RFC 9000 section 16). io.EOF means that the input ended before its first byte.
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

// varint decodes the QUIC varint at the beginning of b, which is long enough, and returns its size.
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

// decoder reads a sequence of capsules. It is not safe for concurrent use.
type decoder struct {
	r       io.Reader
	scratch [16]byte // what is read of a header
	left    uint64   // bytes of the current data capsule not yet read
	final   bool     // the current data capsule is the last
	ended   bool
	err     error // sticky
}

// errMoved is how the decoder ends where the flow goes on in its lane, errTaken how its WriteTo ends where another goes on reading.
var (
	errMoved = errors.New("the flow has moved")
	errTaken = errors.New("the rest is read elsewhere")
)

var errTooLong = errors.New("capsule is over the limit")

// next moves to the next capsule that carries data and returns nil, io.EOF after FINAL_DATA, or an error.
func (d *decoder) next() error {
	for d.err == nil && d.left == 0 {
		if d.final {
			d.ended, d.err = true, io.EOF
			break
		}
		if d.err = d.fill(); d.err == nil {
			d.err = d.header()
		}
		d.err = unexpected(d.err)
	}
	return d.err
}

// fill reads a capsule's header and not a byte more. A flow at rest waits here, on a stack that is no deeper than it must be.
func (d *decoder) fill() error {
	for have, need := 0, headerNeeds(nil); have < need; need = headerNeeds(d.scratch[:have]) {
		n, err := d.r.Read(d.scratch[have:need])
		have += n
		if err != nil && have < headerNeeds(d.scratch[:have]) {
			return err
		}
	}
	return nil
}

// headerNeeds returns how long a capsule's header is at least, in bytes, of which the first are known: it is two QUIC varints.
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

// header takes the header that was read.
func (d *decoder) header() error {
	kind, n := varint(d.scratch[:])
	length, _ := varint(d.scratch[n:])
	switch kind {
	case typeData, typeFinalData:
		if length > maxCapsule {
			return fmt.Errorf("%w: %d bytes", errTooLong, length)
		}
		d.left, d.final = length, kind == typeFinalData
		return nil
	case typeMoved:
		if length != 0 {
			return fmt.Errorf("%w: MOVED with %d bytes", errTooLong, length)
		}
		return errMoved
	}
	if length > maxSkipped {
		return fmt.Errorf("%w: %d bytes of unknown type %#x", errTooLong, length, kind)
	}
	_, err := io.CopyN(io.Discard, d.r, int64(length))
	return err
}

// Read returns data of the current capsule. io.EOF is the clean end.
func (d *decoder) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := d.next(); err != nil {
		return 0, err
	}
	n, err := d.r.Read(p[:min(uint64(len(p)), d.left)])
	d.left -= uint64(n)
	if err != nil && (err != io.EOF || d.left > 0 || !d.final) {
		d.err = unexpected(err)
		if n > 0 {
			return n, nil
		}
		return 0, d.err
	}
	return n, nil
}

// WriteTo writes the data to w until the clean end. It waits for a capsule's header with eight bytes in hand and takes
// a buffer only when data is there.
func (d *decoder) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := d.next(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := d.writeCapsule(w)
		total += n
		if err != nil {
			return total, err
		}
	}
}

func (d *decoder) writeCapsule(w io.Writer) (total int64, err error) {
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	buf := *p
	for d.left > 0 {
		n, rerr := d.Read(buf)
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

// datagrams reads DATAGRAM capsules.
type datagrams struct{ decoder }

// Read returns one datagram; a p that is too small cuts it, as a socket does. io.EOF is the clean end.
func (d *datagrams) Read(p []byte) (int, error) {
	for {
		if d.err != nil {
			return 0, d.err
		}
		n, ok, err := d.datagram(p)
		if err != nil {
			d.err = err
		} else if ok {
			return n, nil
		}
	}
}

func (d *datagrams) datagram(p []byte) (n int, ok bool, err error) {
	if err := d.fill(); err != nil {
		return 0, false, unexpected(err)
	}
	kind, size := varint(d.scratch[:])
	length, _ := varint(d.scratch[size:])
	if kind == typeFinalData && length == 0 {
		d.ended = true
		return 0, false, io.EOF
	}
	if length > maxSkipped+8 {
		return 0, false, fmt.Errorf("%w: %d bytes", errTooLong, length)
	}
	body := io.LimitReader(d.r, int64(length))
	if kind == typeDatagram {
		context, err := readVarint(body, d.scratch[:])
		if err != nil {
			return 0, false, unexpected(err)
		}
		if ok = context == 0; ok {
			size := int(body.(*io.LimitedReader).N)
			if n, err = io.ReadFull(body, p[:min(len(p), size)]); err != nil {
				return 0, false, unexpected(err)
			}
		}
	}
	rest := body.(*io.LimitedReader).N
	if skipped, err := io.Copy(io.Discard, body); err != nil || skipped < rest {
		return 0, false, io.ErrUnexpectedEOF
	}
	return n, ok, nil
}

// appendDatagram appends p as a DATAGRAM capsule with context ID 0.
func appendDatagram(b, p []byte) []byte {
	b = append(b, typeDatagram)
	b = binary.BigEndian.AppendUint32(b, 0x80000000|uint32(len(p)+1))
	return append(append(b, 0), p...)
}
