package tunnel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/quic-go/qpack"
)

// A header block outside HTTP/2 is one HTTP/3 HEADERS frame:
//
//	byte 0       type, 0x01                              RFC 9114 section 7.2.2
//	bytes 1..n   length of the rest, a QUIC varint       RFC 9000 section 16
//	the rest     QPACK field section, static table only  RFC 9204 section 4.5
//
// It is stateless and says its own length, so nothing is read beyond it.
const (
	headersFrame   = 0x01
	maxHeaderBlock = 8 << 10 // bytes of field section; the library sets no limit of its own. Huffman codes have 5 bits or more: it decodes to 8/5 of it
)

// Header is a decoded header block: each field once.
type Header map[string]string

var pseudoFields = map[string]bool{":method": true, ":authority": true, ":path": true, ":status": true}

// WriteHeader writes the fields, given as name, value, name, value, as one block in one Write.
func WriteHeader(w io.Writer, fields ...string) error {
	if len(fields)%2 != 0 {
		panic("tunnel: internal error: a field without a value")
	}
	var section bytes.Buffer
	enc := qpack.NewEncoder(&section)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return fmt.Errorf("encode header block: %v", err)
		}
	}
	if section.Len() > maxHeaderBlock {
		return fmt.Errorf("header block of %d bytes is over the limit of %d", section.Len(), maxHeaderBlock)
	}
	frame := make([]byte, 0, 3+section.Len())
	frame = append(frame, headersFrame)
	// "the two most significant bits of the first byte encode the base-2 logarithm of the integer
	// encoding length" (RFC 9000 section 16): 0x4000 marks two bytes.
	frame = binary.BigEndian.AppendUint16(frame, 0x4000|uint16(section.Len()))
	frame = append(frame, section.Bytes()...)
	_, err := w.Write(frame)
	return err
}

// ReadHeader reads one block and not a byte more. It refuses unknown pseudo-fields, repeated
// fields, and names that are not lower case.
func ReadHeader(r io.Reader) (Header, error) {
	var first [2]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return nil, fmt.Errorf("read header block: %w", err)
	}
	if first[0] != headersFrame {
		return nil, fmt.Errorf("read header block: frame type %#x instead of HEADERS", first[0])
	}
	length := uint64(first[1] & 0x3f)
	for range 1<<(first[1]>>6) - 1 {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("read header block: %w", noEOF(err))
		}
		length = length<<8 | uint64(b[0])
	}
	if length > maxHeaderBlock {
		return nil, fmt.Errorf("header block of %d bytes is over the limit of %d", length, maxHeaderBlock)
	}
	section := make([]byte, length)
	if _, err := io.ReadFull(r, section); err != nil {
		return nil, fmt.Errorf("read header block: %w", noEOF(err))
	}
	return decodeSection(section)
}

func decodeSection(section []byte) (Header, error) {
	h := Header{}
	for next := qpack.NewDecoder().Decode(section); ; {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return h, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode header block: %v", err)
		}
		if f.Name == "" || f.Name != strings.ToLower(f.Name) {
			return nil, fmt.Errorf("header field name %q is not lower case", f.Name)
		}
		if f.IsPseudo() && !pseudoFields[f.Name] {
			return nil, fmt.Errorf("unknown pseudo-field %q", f.Name)
		}
		if _, twice := h[f.Name]; twice {
			return nil, fmt.Errorf("header field %q is repeated", f.Name)
		}
		h[f.Name] = f.Value
	}
}

// noEOF is the error of an input that ends where it must not.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
