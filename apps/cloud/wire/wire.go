// Package wire is how endpoints ask each other for blocks: many requests on one flow, answered in
// order.
//
//	request   op (1 byte)  hash of the content (32)  number (4)
//	answer    status (2)   length (4)                that many bytes
//
// Numbers are big-endian. A status is one of HTTP: 200, 404 for what is not here and for what the
// peer may not have, 409 where the file has changed, 500. A request names a content and never a
// path.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"ztm/apps/cloud/blocks"
)

// Op is what is asked for.
type Op byte

// What can be asked for.
const (
	Have  Op = 'H' // a [blocks.Bitmap]; the number is that of the blocks
	List  Op = 'L' // a [blocks.List]
	Block Op = 'B' // the block of the number
)

// Request asks for something of a content.
type Request struct {
	Op      Op
	Content blocks.Hash
	N       uint32
}

// RequestSize is the length of a request, in bytes.
const RequestSize = 1 + blocks.HashSize + 4

// Append appends a request.
func (r Request) Append(b []byte) []byte {
	b = append(b, byte(r.Op))
	b = append(b, r.Content[:]...)
	return binary.BigEndian.AppendUint32(b, r.N)
}

// ReadRequest reads a request. The end of the flow before it is [io.EOF].
func ReadRequest(from io.Reader) (r Request, err error) {
	var b [RequestSize]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return r, err
	}
	r.Op, r.N = Op(b[0]), binary.BigEndian.Uint32(b[1+blocks.HashSize:])
	copy(r.Content[:], b[1:])
	if r.Op != Have && r.Op != List && r.Op != Block {
		return r, fmt.Errorf("there is no request %q", b[0])
	}
	return r, nil
}

// Statuses.
const (
	OK       = 200
	NotFound = 404
	Changed  = 409
	Failed   = 500
)

// Answer is the head of an answer.
type Answer struct {
	Status int
	Length int64 // of what follows, in bytes
}

const answerSize = 2 + 4

// Append appends the head of an answer.
func (a Answer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(a.Status))
	return binary.BigEndian.AppendUint32(b, uint32(a.Length))
}

// ReadAnswer reads the head of an answer, and refuses one with more bytes than most, or with bytes
// although it is not [OK].
func ReadAnswer(from io.Reader, most int64) (a Answer, err error) {
	var b [answerSize]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return a, err
	}
	a.Status, a.Length = int(binary.BigEndian.Uint16(b[:])), int64(binary.BigEndian.Uint32(b[2:]))
	if a.Length > most || a.Status != OK && a.Length != 0 {
		return a, fmt.Errorf("an answer %d of %d bytes, at most %d make sense", a.Status, a.Length, most)
	}
	return a, nil
}
