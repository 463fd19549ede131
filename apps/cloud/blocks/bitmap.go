package blocks

import (
	"fmt"
	"math/bits"
)

// Bitmap says which blocks of a file are there: bit n%8 of byte n/8, from the lowest. Bits beyond
// the last block are zero.
type Bitmap []byte

// NewBitmap returns a bitmap for so many blocks, none of which is there.
func NewBitmap(count int) Bitmap { return make(Bitmap, (count+7)/8) }

// FullBitmap returns a bitmap for so many blocks, all of which are there.
func FullBitmap(count int) Bitmap {
	m := NewBitmap(count)
	for n := range count {
		m.Set(n)
	}
	return m
}

// ParseBitmap checks a bitmap that a peer sent for so many blocks.
func ParseBitmap(b []byte, count int) (Bitmap, error) {
	if len(b) != (count+7)/8 {
		return nil, fmt.Errorf("a bitmap of %d bytes for %d blocks", len(b), count)
	}
	if rest := count % 8; rest != 0 && b[len(b)-1]>>rest != 0 {
		return nil, fmt.Errorf("a bitmap with more than %d blocks", count)
	}
	return Bitmap(b), nil
}

// Has reports whether block n is there.
func (m Bitmap) Has(n int) bool { return m[n/8]>>(n%8)&1 == 1 }

// Set notes that block n is there.
func (m Bitmap) Set(n int) { m[n/8] |= 1 << (n % 8) }

// Clear notes that block n is not there.
func (m Bitmap) Clear(n int) { m[n/8] &^= 1 << (n % 8) }

// Count returns how many blocks are there.
func (m Bitmap) Count() (n int) {
	for _, b := range m {
		n += bits.OnesCount8(b)
	}
	return n
}
