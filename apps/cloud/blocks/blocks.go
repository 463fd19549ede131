// Package blocks cuts files into blocks, and says of each whether it is the right one.
//
//	file -> Sum -> Content (size, hash of the whole, hash of the list) and List (hash of each block)
//	List -> block n arrives -> Check -> Bitmap.Set(n)
//
// A content is known by the hash of the whole, and its blocks by a list, which the hash of the list
// vouches for. So what is told of a file stays small, however large the file is. Blocks have a fixed
// size, which follows from the size of the file.
package blocks

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Limits.
const (
	HashSize = sha256.Size

	MinBlock = 128 << 10 // bytes
	MaxBlock = 16 << 20  // bytes
	MaxSize  = 1 << 40   // bytes of a file; so it has 65,536 blocks at most

	usual = 2000 // blocks of a file at most, where MaxBlock does not set an end to that
)

// Hash is a SHA-256.
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
	Hash Hash // of the whole
	List Hash // of the list
}

// Check checks that the content of a file that has one block, or none, does not contradict itself.
func (c Content) Check() error {
	if c.Size == 0 && c.Hash != sha256.Sum256(nil) {
		return errors.New("the hash of an empty file is another one")
	}
	if Count(c.Size) < 2 && c.List != List(c.whole()).Sum() {
		return errors.New("the hash of a file does not fit that of its only block")
	}
	return nil
}

// whole returns the list of a file that has one block or none.
func (c Content) whole() []byte {
	if c.Size == 0 {
		return nil
	}
	return c.Hash[:]
}

// List holds the hashes of all blocks of a file, one behind the other.
type List []byte

// Whole returns the list where the content says all of it, because there is one block or none.
func (c Content) Whole() (List, bool) {
	if Count(c.Size) > 1 {
		return nil, false
	}
	return c.whole(), true
}

// Sum returns the hash that vouches for the list.
func (l List) Sum() Hash { return sha256.Sum256(l) }

// Fits checks that a list that somebody gave is that of a content.
func (l List) Fits(c Content) error {
	if len(l) != Count(c.Size)*HashSize {
		return fmt.Errorf("a list of %d bytes for %d blocks", len(l), Count(c.Size))
	}
	if l.Sum() != c.List {
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
	size, seen  int64
	whole, part hash.Hash
	list        List
}

// NewSummer makes a Summer for a file of a size.
func NewSummer(size int64) *Summer {
	return &Summer{size: size, whole: sha256.New(), part: sha256.New()}
}

// ErrSize is what a file that has more or less bytes than it should is.
var ErrSize = errors.New("the size has changed")

// Write takes the next bytes.
func (s *Summer) Write(p []byte) (n int, err error) {
	if s.seen+int64(len(p)) > s.size {
		return 0, ErrSize
	}
	s.whole.Write(p)
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
	c := Content{Size: s.size, List: s.list.Sum()}
	s.whole.Sum(c.Hash[:0])
	return c, s.list, nil
}

// Sum reads a file of a size to its end. A file that is longer or shorter by now is an [ErrSize].
func Sum(r io.Reader, size int64) (Content, List, error) {
	s := NewSummer(size)
	if _, err := io.Copy(s, io.LimitReader(r, size+1)); err != nil {
		return Content{}, nil, err
	}
	return s.End()
}
