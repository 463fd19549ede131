// Package room lends the buffers that bytes on their way are read into. Most connections are silent most of the time, and some move all
// that the machine can move: the first should cost nothing, the second should need few system calls. So a room grows and shrinks with
// what comes:
//
//	Next(rest) -> the caller reads into it -> Brought(n): a full room calls for a larger one, a room that a
//	                                          smaller one would have done for is given back for that one
//
// Rooms that are given back are lent again; the collector takes those that nobody wants.
package room

import (
	"sync"

	"ztm/tunnel/memory"
)

// Ladder is the sizes that a room may have, from small to large. Make it with [NewLadder]. It is safe for concurrent use.
type Ladder []*rung

type rung struct {
	size int // bytes
	pool sync.Pool
}

// NewLadder makes a ladder of sizes in bytes, from small to large.
func NewLadder(sizes ...int) Ladder {
	l := make(Ladder, len(sizes))
	for i, size := range sizes {
		l[i] = &rung{size: size}
		l[i].pool.New = func() any { b := make([]byte, size); return &b }
	}
	return l
}

// Bulk makes a ladder of least and what a flow that moves much wants, at the first call of the function that it returns. A system call, the
// wake-up of the next process and the switch to it cost about as much for 512 KiB as for 32; beyond that the processor's cache is too small.
// Where memory is scarce, 128 KiB are the most.
func Bulk(least int) func() Ladder {
	return sync.OnceValue(func() Ladder {
		if memory.Here().Small() {
			return NewLadder(least, Most/4)
		}
		return NewLadder(least, Most/4, Most)
	})
}

// Most is the largest size on a ladder made by [Bulk], in bytes.
const Most = 512 << 10

// Lend returns a buffer of at least n bytes, or of the largest size. It is given back with Return.
func (l Ladder) Lend(n int) *[]byte {
	at := 0
	for at < len(l)-1 && l[at].size < n {
		at++
	}
	return l[at].pool.Get().(*[]byte)
}

// Return takes back what was lent.
func (l Ladder) Return(buf *[]byte) {
	for _, r := range l {
		if r.size == len(*buf) {
			r.pool.Put(buf)
			return
		}
	}
}

// Room is a buffer of one reader. The zero value with a Ladder has none yet; Release it in the end. It is not safe for concurrent use.
type Room struct {
	Ladder Ladder

	buf  *[]byte // nil before the first Next
	at   int     // rung of buf
	want int     // rung for the next read
}

// Next returns the buffer for the next read, with rest at its front: what is left of the last one, less than the largest size. It is valid
// until the next Next or Release.
func (r *Room) Next(rest []byte) []byte {
	for r.want < len(r.Ladder)-1 && len(rest) >= r.Ladder[r.want].size {
		r.want++
	}
	if r.buf != nil && r.want == r.at {
		copy(*r.buf, rest)
		return *r.buf
	}
	buf := r.Ladder.Lend(r.Ladder[r.want].size)
	copy(*buf, rest)
	r.Release()
	r.buf, r.at = buf, r.want
	return *buf
}

// Brought says how many bytes are in the buffer after a read.
func (r *Room) Brought(n int) {
	if n == len(*r.buf) {
		r.want = min(r.at+1, len(r.Ladder)-1)
		return
	}
	r.want = 0
	for n > r.Ladder[r.want].size {
		r.want++
	}
}

// Size is that of the present buffer, in bytes; 0 without one.
func (r *Room) Size() int {
	if r.buf == nil {
		return 0
	}
	return len(*r.buf)
}

// Release gives the buffer back. The Room may be used again.
func (r *Room) Release() {
	if r.buf != nil {
		r.Ladder.Return(r.buf)
		r.buf = nil
	}
}
