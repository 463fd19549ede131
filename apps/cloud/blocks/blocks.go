// Package blocks cuts files into blocks, and says of each whether it is the right one.
//
//	file -> Sum, all cores -> Content (size, hash) and List (hash of each block)
//	List -> does it fit the Content? -> block n arrives -> Is -> Bitmap.Set(n)
//
// A content of one block is known by its SHA-256, and one of several by the SHA-512/256 of its size,
// the size of its blocks and their list. That is another function, so that no small file can pass
// for the list of a large one. What is told of a file stays small, however large the file is, and
// each byte of it is hashed once. Blocks have a fixed size, which follows from the size of the file.
package blocks

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// Limits.
const (
	HashSize = sha256.Size

	MinBlock = 128 << 10 // bytes
	MaxBlock = 16 << 20  // bytes
	MaxSize  = 1 << 40   // bytes of a file; so it has 65,536 blocks at most

	usual = 2000 // blocks of a file at most, where MaxBlock does not set an end to that
)

// Hash is a SHA-256, or a SHA-512/256.
type Hash = [HashSize]byte

// Size returns the size of the blocks of a file: the smallest power of two from [MinBlock] to
// [MaxBlock] that makes no more than 2,000 of them. The last block may be shorter.
func Size(size int64) int64 {
	block := int64(MinBlock)
	for block < MaxBlock && (size+block-1)/block > usual {
		block *= 2
	}
	return block
}

// Count returns how many blocks a file of a size has. An empty file has none.
func Count(size int64) int { return int((size + Size(size) - 1) / Size(size)) }

// Bounds returns where block n of a file begins, and how long it is.
func Bounds(size int64, n int) (at, length int64) {
	block := Size(size)
	at = int64(n) * block
	return at, min(block, size-at)
}

// Content is what a file contains.
type Content struct {
	Size int64
	Hash Hash
}

// Check checks that an empty file has the hash of one.
func (c Content) Check() error {
	if c.Size == 0 && c.Hash != sha256.Sum256(nil) {
		return errors.New("the hash of an empty file is another one")
	}
	return nil
}

// List holds the SHA-256 of all blocks of a file, one behind the other.
type List []byte

// Whole returns the list where the content says all of it, because there is one block or none.
func (c Content) Whole() (List, bool) {
	switch Count(c.Size) {
	case 0:
		return nil, true
	case 1:
		return c.Hash[:], true
	}
	return nil, false
}

// Content returns the content of a file of a size that has these blocks.
func (l List) Content(size int64) Content {
	c := Content{Size: size}
	switch len(l) / HashSize {
	case 0:
		c.Hash = sha256.Sum256(nil)
	case 1:
		copy(c.Hash[:], l)
	default:
		h := sha512.New512_256()
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(Size(size))))
		h.Write(l)
		h.Sum(c.Hash[:0])
	}
	return c
}

// Fits checks that a list that somebody gave is that of a content.
func (l List) Fits(c Content) error {
	if len(l) != Count(c.Size)*HashSize {
		return fmt.Errorf("a list of %d bytes for %d blocks", len(l), Count(c.Size))
	}
	if l.Content(c.Size) != c {
		return errors.New("the list of blocks is another one")
	}
	return nil
}

// Is reports whether block n has a hash.
func (l List) Is(n int, sum []byte) bool {
	return subtle.ConstantTimeCompare(l[n*HashSize:][:HashSize], sum) == 1
}

// Summer takes a file in order and makes its content and list. Make it with [NewSummer].
type Summer struct {
	size, seen int64
	part       hash.Hash
	list       List
}

// NewSummer makes a Summer for a file of a size.
func NewSummer(size int64) *Summer {
	return &Summer{size: size, part: sha256.New()}
}

// ErrSize is what a file that has more or less bytes than it should is.
var ErrSize = errors.New("the size has changed")

// Write takes the next bytes.
func (s *Summer) Write(p []byte) (n int, err error) {
	if s.seen+int64(len(p)) > s.size {
		return 0, ErrSize
	}
	for block := Size(s.size); n < len(p); {
		piece := p[n:min(int64(len(p)), int64(n)+block-s.seen%block)]
		s.part.Write(piece)
		n += len(piece)
		s.seen += int64(len(piece))
		if s.seen%block == 0 || s.seen == s.size {
			s.list = s.part.Sum(s.list)
			s.part.Reset()
		}
	}
	return n, nil
}

// End returns what the file was, once all of it was written.
func (s *Summer) End() (Content, List, error) {
	if s.seen != s.size {
		return Content{}, nil, ErrSize
	}
	return s.list.Content(s.size), s.list, nil
}
