package blocks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

func TestBlocksAreAPowerOfTwoAndTwoThousandAtMostWhileThatGoes(t *testing.T) {
	for _, tt := range []struct{ size, block int64 }{
		{0, 128 << 10}, {1, 128 << 10}, {2000 * 128 << 10, 128 << 10}, {2000*128<<10 + 1, 256 << 10},
		{1 << 30, 1 << 20}, {2000 * 16 << 20, 16 << 20}, {MaxSize, 16 << 20},
	} {
		if got := Size(tt.size); got != tt.block {
			t.Errorf("a file of %d bytes has blocks of %d, want %d", tt.size, got, tt.block)
		}
	}
	for range 2000 {
		size := rand.Int64N(1 << (1 + rand.IntN(40)))
		block, count := Size(size), Count(size)
		if bits.OnesCount64(uint64(block)) != 1 || block < MinBlock || block > MaxBlock || count > 1<<16 || count > 2000 && block < MaxBlock {
			t.Fatalf("a file of %d bytes has %d blocks of %d", size, count, block)
		}
		var sum int64
		for n := range count {
			at, length := Bounds(size, n)
			if at != sum || length <= 0 {
				t.Fatalf("block %d of a file of %d bytes begins at %d and has %d", n, size, at, length)
			}
			sum += length
		}
		if sum != size {
			t.Fatalf("the blocks of %d bytes have %d", size, sum)
		}
	}
}

// pattern is a file.
func pattern(size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestTheSumOfAFileVouchesForEachOfItsBlocks(t *testing.T) {
	for _, size := range []int{0, 1, MinBlock - 1, MinBlock, MinBlock + 1, 5*MinBlock + 17} {
		file := pattern(size)
		c, list, err := Sum(bytes.NewReader(file), int64(size))
		if err != nil || c.Check() != nil || list.Fits(c) != nil {
			t.Fatalf("%d bytes: %v, %v, %v", size, err, c.Check(), list.Fits(c))
		}
		for n := range Count(c.Size) {
			at, length := Bounds(c.Size, n)
			block := bytes.Clone(file[at : at+length])
			sum := sha256.Sum256(block)
			if !list.Is(n, sum[:]) {
				t.Errorf("%d bytes: block %d is not the right one", size, n)
			}
			block[len(block)/2] ^= 1
			if sum = sha256.Sum256(block); list.Is(n, sum[:]) {
				t.Errorf("%d bytes: block %d with a changed bit is the right one", size, n)
			}
		}
		if whole, ok := c.Whole(); ok != (Count(c.Size) < 2) || ok && !bytes.Equal(whole, list) {
			t.Errorf("%d bytes: the content says %x, %v", size, whole, ok)
		}
	}
}

func TestAFileInOrderHasTheSameSumAsOnAllCores(t *testing.T) {
	for _, size := range []int{0, 1, MinBlock, 9*MinBlock + 3} {
		file := pattern(size)
		s := NewSummer(int64(size))
		for rest := file; len(rest) > 0; rest = rest[min(1<<16, len(rest)):] {
			s.Write(rest[:min(1<<16, len(rest))])
		}
		c, list, err := s.End()
		all, lists, errs := Sum(bytes.NewReader(file), int64(size))
		if err != nil || errs != nil || c != all || !bytes.Equal(list, lists) {
			t.Errorf("%d bytes: %x, %v and %x, %v", size, c.Hash, err, all.Hash, errs)
		}
	}
}

func TestASmallFileIsKnownByItsSHA256(t *testing.T) {
	for _, size := range []int{0, 5, MinBlock} {
		file := pattern(size)
		if c, _, _ := Sum(bytes.NewReader(file), int64(size)); c.Hash != sha256.Sum256(file) {
			t.Errorf("%d bytes have another hash", size)
		}
	}
}

func TestNoSmallFileHasTheHashOfALargeOne(t *testing.T) {
	const size = 3 * MinBlock
	c, list, _ := Sum(bytes.NewReader(pattern(size)), size)
	head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, size), MinBlock)
	for _, small := range [][]byte{list, append(head, list...)} {
		if s, _, _ := Sum(bytes.NewReader(small), int64(len(small))); s.Hash == c.Hash {
			t.Errorf("a file of %d bytes has the hash of one of %d", len(small), size)
		}
	}
}

func TestTheSameBlocksInAFileOfAnotherSizeAreAnotherContent(t *testing.T) {
	list := List(pattern(3 * HashSize))
	c := list.Content(3 * MinBlock)
	if other := list.Content(3*MinBlock - 1); other.Hash == c.Hash || list.Fits(Content{Size: 3*MinBlock - 1, Hash: c.Hash}) == nil {
		t.Error("a content says nothing about its size")
	}
}

func TestAfterAFailureNoMoreBlocksAreBegun(t *testing.T) {
	const count = 1000
	bad := errors.New("bad")
	var called atomic.Int32
	err := Each(count*MinBlock, func(n int, _ []byte) error {
		called.Add(1)
		return bad
	})
	if !errors.Is(err, bad) || called.Load() > cores {
		t.Errorf("%v after %d of %d", err, called.Load(), count)
	}
}

func TestAFileThatGrowsOrShrinksHasNoSum(t *testing.T) {
	for _, is := range []int64{100, 3 * MinBlock} {
		for _, size := range []int64{0, is - 1, is + 1, is + MinBlock} {
			if _, _, err := Sum(bytes.NewReader(make([]byte, is)), size); !errors.Is(err, ErrSize) {
				t.Errorf("%d bytes as %d: %v", is, size, err)
			}
		}
	}
}

func TestAListOfOtherBlocksIsRefused(t *testing.T) {
	c, list, _ := Sum(bytes.NewReader(pattern(3*MinBlock)), 3*MinBlock)
	other := bytes.Clone(list)
	other[40] ^= 1
	for name, l := range map[string]List{"a changed byte": other, "too short": list[:64], "too long": append(bytes.Clone(list), list...), "none": nil} {
		if l.Fits(c) == nil {
			t.Errorf("%s: the list fits", name)
		}
	}
	if (Content{Hash: c.Hash}).Check() == nil {
		t.Error("an empty file with the hash of another one is taken")
	}
}

func TestABitmapHoldsWhatWasSet(t *testing.T) {
	for _, count := range []int{0, 1, 7, 8, 9, 65536} {
		m := NewBitmap(count)
		for n := range count {
			m.Set(n)
			if n%3 == 0 {
				m.Clear(n)
			}
		}
		got := 0
		for n := range count {
			if m.Has(n) != (n%3 != 0) {
				t.Fatalf("%d blocks: block %d is there: %v", count, n, m.Has(n))
			}
			if m.Has(n) {
				got++
			}
		}
		if m.Count() != got || FullBitmap(count).Count() != count {
			t.Errorf("%d blocks: %d of %d, full %d", count, m.Count(), got, FullBitmap(count).Count())
		}
	}
}

func FuzzBitmap(f *testing.F) {
	f.Add([]byte{0xff}, 8)
	f.Add([]byte{0xff}, 7)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		if count < 0 || count > 1<<16 {
			return
		}
		m, err := ParseBitmap(b, count)
		if err != nil {
			return
		}
		seen := 0
		for n := range count {
			if m.Has(n) {
				seen++
			}
		}
		if seen != m.Count() {
			t.Errorf("%d blocks are there, and %d are counted", seen, m.Count())
		}
	})
}
