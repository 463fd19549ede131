package transfer

import (
	"io"
	"sync"
)

// coalescer gathers frames, and writes them while the next ones are made.
//
//	append ... flush ──────┐
//	                       ├─> queue -> one goroutine: Write -> the buffer is free again
//	room, filled -> put ───┘
//
// What is large is written from where it was read to, behind the small frames that wait. After a failure
// all that comes is dropped.
type coalescer struct {
	small []byte      // frames that wait; nil: none; belongs to whose turn it is
	queue chan parcel // what is to be written, in order
	free  chan []byte // all other buffers; nil is one that was never used
	ended sync.WaitGroup

	mu  sync.Mutex
	err error // why nothing more is written; guarded by mu
}

// parcel is what one call of Write has.
type parcel struct {
	buf  []byte
	at   int           // where it begins
	done chan struct{} // closed when all before was written; nil: nobody waits
}

const (
	buffers = 3        // one is filled, one waits, one is written
	gather  = 64 << 10 // small frames that make a write, in bytes
	lead    = 4 << 10  // room before a large frame for small ones, in bytes
)

// newCoalescer begins to write. close ends that.
func newCoalescer(w io.Writer) *coalescer {
	c := &coalescer{queue: make(chan parcel, buffers+1), free: make(chan []byte, buffers)}
	for range buffers {
		c.free <- nil
	}
	c.ended.Go(func() { c.run(w) })
	return c
}

func (c *coalescer) run(w io.Writer) {
	for p := range c.queue {
		if p.done != nil {
			close(p.done)
			continue
		}
		if c.failed() == nil {
			if _, err := w.Write(p.buf[p.at:]); err != nil {
				c.mu.Lock()
				c.err = err
				c.mu.Unlock()
			}
		}
		c.free <- p.buf
	}
}

func (c *coalescer) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// buffer waits for a buffer that is empty and has room for n bytes.
func (c *coalescer) buffer(n int) []byte {
	b := <-c.free
	if cap(b) < n {
		b = make([]byte, 0, n)
	}
	return b[:0]
}

// append adds a part of a small frame.
func (c *coalescer) append(p []byte) {
	if c.small != nil && len(c.small)+len(p) > cap(c.small) {
		c.flush()
	}
	if c.small == nil {
		c.small = c.buffer(max(len(p), gather))
	}
	c.small = append(c.small, p...)
}

// flush has all that waits written.
func (c *coalescer) flush() {
	if c.small != nil {
		c.queue <- parcel{buf: c.small}
		c.small = nil
	}
}

// room returns a buffer for the content of a large frame of up to n bytes. Whoever fills it need not have
// the turn. It goes to put, or to drop.
func (c *coalescer) room(n int) []byte { return c.buffer(lead + header + n)[:lead+header] }

// put has the buffer of a large frame written, which has all but the head of the frame.
func (c *coalescer) put(b []byte, head [header]byte) {
	copy(b[lead:], head[:])
	at := lead
	if len(c.small) > lead {
		c.flush()
	} else if c.small != nil {
		at -= copy(b[lead-len(c.small):], c.small)
		c.free <- c.small
		c.small = nil
	}
	c.queue <- parcel{buf: b, at: at}
}

// drop gives a buffer back that nothing was made of.
func (c *coalescer) drop(b []byte) { c.free <- b }

// drain waits until all was written, or writing has failed.
func (c *coalescer) drain() error {
	c.flush()
	done := make(chan struct{})
	c.queue <- parcel{done: done}
	<-done
	return c.failed()
}

// close ends the goroutine. Nobody adds anything any longer.
func (c *coalescer) close() {
	close(c.queue)
	c.ended.Wait()
}
