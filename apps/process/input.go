package process

import (
	"errors"
	"io"
	"sync"
)

// input buffers a program's stdin: at most [Window] bytes. The caller is granted more as the
// program reads.
type input struct {
	mu     sync.Mutex
	ready  *sync.Cond // something below changed
	queued []byte
	held   int // queued, and taken but not yet written
	taken  int // written, and not yet granted again
	turn   int // counts the callers
	ended  bool
	closed bool
}

func newInput() *input {
	q := &input{}
	q.ready = sync.NewCond(&q.mu)
	return q
}

var errWindow = errors.New("more stdin than the window allows")

// put stores a copy of p.
func (q *input) put(p []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held+len(p) > Window {
		return errWindow
	}
	if q.ended || q.closed {
		return nil // the program closed its stdin or has ended
	}
	q.queued = append(q.queued, p...)
	q.held += len(p)
	q.ready.Signal()
	return nil
}

// end marks the end of stdin.
func (q *input) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.ready.Signal()
}

// close ends feed.
func (q *input) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Signal()
}

// attach begins the turn of another caller, which may put room bytes at first. Later grants are for
// this turn alone.
func (q *input) attach() (turn, room int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn++
	q.taken = 0
	return q.turn, Window - q.held
}

// feed writes what is put to w, in order, until the end or the first error. It calls grant with the
// number of bytes that the caller of a turn may send in addition. Grants are collected, so that a
// keystroke does not cost a frame in return.
func (q *input) feed(w io.Writer, grant func(turn, n int)) {
	var p []byte
	for {
		var ok bool
		if p, ok = q.swap(p[:0]); !ok {
			return
		}
		if _, err := w.Write(p); err != nil {
			q.end()
			return
		}
		if turn, n := q.written(len(p)); n > 0 {
			grant(turn, n)
		}
		if cap(p) > 2*maxData {
			p = nil
		}
	}
}

// swap waits for bytes and returns them all; spare becomes the next buffer. ok is false at the end
// and after close.
func (q *input) swap(spare []byte) (p []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queued) == 0 && !q.ended && !q.closed {
		q.ready.Wait()
	}
	if q.closed || len(q.queued) == 0 {
		return nil, false
	}
	p = q.queued
	q.queued = spare
	return p, true
}

func (q *input) written(n int) (turn, granted int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held -= n
	if q.taken += n; q.taken >= Window/4 {
		granted, q.taken = q.taken, 0
	}
	return q.turn, granted
}
