// Package buffer provides the buffers that bytes on their way are read into. Most connections are
// silent most of the time, and some move all that the machine can move: the first should cost
// nothing, the second should need few system calls. So the buffer of a reader grows and shrinks
// with what comes:
//
//	Next(remainder) -> the caller reads into it -> Filled(n): a full buffer calls for the next size class; one that a
//	                                                smaller class would have done for is put back for that class
//
// Buffers that are put back are used again; the collector takes those that nobody wants.
package buffer

import (
	"io"
	"sync"

	"ztm/tunnel/memory"
)

// Classes are the size classes that a buffer may have, from small to large. Make them with
// [NewClasses]. They are safe for concurrent use.
type Classes []*class

type class struct {
	size int // bytes
	pool sync.Pool
}

// NewClasses makes size classes of so many bytes, from small to large.
func NewClasses(sizes ...int) Classes {
	all := make(Classes, len(sizes))
	for i, size := range sizes {
		all[i] = &class{size: size}
		all[i].pool.New = func() any { b := make([]byte, size); return &b }
	}
	return all
}

// Bulk makes the classes for a flow that moves much, at the first call of the function that it
// returns; least is the minimum size in bytes. A system call, the wake-up of the next process and
// the switch to it cost about as much for 512 KiB as for 32; beyond that the processor's cache is
// too small. Where memory is scarce, 128 KiB are the largest.
func Bulk(least int) func() Classes {
	return sync.OnceValue(func() Classes {
		if memory.Here().Small() {
			return NewClasses(least, Largest/4)
		}
		return NewClasses(least, Largest/4, Largest)
	})
}

// Largest is the largest class made by [Bulk], in bytes.
const Largest = 512 << 10

// Get returns a buffer of at least n bytes, or of the largest class. Give it back with Put.
func (c Classes) Get(n int) *[]byte {
	at := 0
	for at < len(c)-1 && c[at].size < n {
		at++
	}
	return c[at].pool.Get().(*[]byte)
}

// Put takes back what Get returned.
func (c Classes) Put(buf *[]byte) {
	for _, one := range c {
		if one.size == len(*buf) {
			one.pool.Put(buf)
			return
		}
	}
}

// Buffer is the buffer of one reader. The zero value with Classes has none yet; Release it in the
// end. It is not safe for concurrent use.
type Buffer struct {
	Classes Classes

	buf  *[]byte // nil before the first Next
	at   int     // class of buf
	want int     // class for the next read
}

// Next returns the buffer for the next read, with remainder at its front: what was not taken of the
// last one, less than the largest class. It is valid until the next Next or Release.
func (b *Buffer) Next(remainder []byte) []byte {
	for b.want < len(b.Classes)-1 && len(remainder) >= b.Classes[b.want].size {
		b.want++
	}
	if b.buf != nil && b.want == b.at {
		copy(*b.buf, remainder)
		return *b.buf
	}
	buf := b.Classes.Get(b.Classes[b.want].size)
	copy(*buf, remainder)
	b.Release()
	b.buf, b.at = buf, b.want
	return *buf
}

// Filled says how many bytes are in the buffer after a read.
func (b *Buffer) Filled(n int) {
	if n == len(*b.buf) {
		b.want = min(b.at+1, len(b.Classes)-1)
		return
	}
	b.want = 0
	for n > b.Classes[b.want].size {
		b.want++
	}
}

// Size is that of the present buffer, in bytes; 0 without one.
func (b *Buffer) Size() int {
	if b.buf == nil {
		return 0
	}
	return len(*b.buf)
}

// Release puts the buffer back. The Buffer may be used again.
func (b *Buffer) Release() {
	if b.buf != nil {
		b.Classes.Put(b.buf)
		b.buf = nil
	}
}

// Copy copies src to dst until src ends, which is no error, or one of them fails. A silent source
// holds a small buffer. written hears how many bytes each write took.
func (c Classes) Copy(dst io.Writer, src io.Reader, written func(n int64)) error {
	in := Buffer{Classes: c}
	defer in.Release()
	for {
		b := in.Next(nil)
		n, rerr := src.Read(b)
		in.Filled(n)
		if n > 0 {
			m, werr := dst.Write(b[:n])
			written(int64(m))
			if werr != nil {
				return werr
			}
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}
