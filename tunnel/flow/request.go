package flow

import (
	"io"
	"sync"

	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
)

// requestBody is the sink at the entrance. net/http's goroutine reads it; a writer hands over
// either a slice or a source, and waits until it is used up.
type requestBody struct {
	mu     sync.Mutex
	cond   sync.Cond
	job    *job      // what to send; nil: nothing; guarded by mu
	eof    bool      // nothing more comes; guarded by mu
	closed error     // the request is over; guarded by mu
	after  func()    // called when it is; may be nil; guarded by mu
	pickup stopwatch // until net/http comes for the next frame
}

type job struct {
	b     []byte    // what is left of a slice
	src   io.Reader // or a source
	conn  *Conn     // whose source it is; nil while the flow is being opened
	total int64
	last  bool // the body ends after it
	done  bool
	err   error
}

// maxRequestFrame is the size of the DATA frames of a request, in bytes, its own header of nine
// bytes (RFC 9113 section 4.1) left out: one TLS record. They are smaller than those of an answer,
// [h2.Frame]: net/http keeps a buffer of the size that the exit allows for each open flow, idle or
// not.
const maxRequestFrame = 16384 - h2.FrameHeader

// newRequestBody makes the body of a request that begins with what early gives; nil is nothing.
func newRequestBody(early Early) *requestBody {
	b := &requestBody{}
	b.cond.L = &b.mu
	if early != nil {
		b.job = &job{src: early}
	}
	return b
}

// Read gives net/http the next frame.
func (b *requestBody) Read(p []byte) (int, error) {
	b.pickup.end()
	n, err := b.frame(p)
	if err == nil {
		b.pickup.begin()
	}
	return n, err
}

func (b *requestBody) frame(p []byte) (int, error) {
	for {
		j, err := b.next()
		if err != nil {
			return 0, err
		}
		if j.src == nil {
			return b.readSlice(j, p)
		}
		if n, err := b.readSource(j, p); n > 0 || err != nil {
			return n, err
		}
	}
}

// next waits for something to send.
func (b *requestBody) next() (*job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.job == nil && !b.eof && b.closed == nil {
		b.cond.Wait()
	}
	if b.closed != nil {
		return nil, b.closed
	}
	if b.job == nil {
		return nil, io.EOF
	}
	return b.job, nil
}

// readSlice gives the last bytes together with the end: then they share a frame.
func (b *requestBody) readSlice(j *job, p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = copy(p, j.b)
	if j.b = j.b[n:]; len(j.b) > 0 {
		return n, nil
	}
	if j.last {
		b.eof, err = true, io.EOF
	}
	b.finishLocked(j, nil)
	return n, err
}

// readSource reads the job's source into p behind the header's place. It holds no lock meanwhile:
// Close must get through. Without a byte and an error the job is over, and there may be another.
func (b *requestBody) readSource(j *job, p []byte) (n int, err error) {
	if len(p) <= capsule.HeaderSize { // net/http's buffers are far larger
		return 0, io.ErrShortBuffer
	}
	p = p[:min(len(p), maxRequestFrame)]
	if j.conn != nil && j.conn.Offloaded() {
		err = capsule.ErrMoved
	} else {
		n, err = j.src.Read(p[capsule.HeaderSize:])
	}
	if n > 0 {
		capsule.PutHeader(p, capsule.Data, n)
		if j.conn != nil {
			j.conn.account(int64(n), 0)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > 0 {
		j.total += int64(n)
		n += capsule.HeaderSize
	}
	if err != nil {
		b.finishLocked(j, ended(err))
	}
	if b.closed != nil {
		return 0, b.closed
	}
	return n, nil
}

func (b *requestBody) finishLocked(j *job, err error) {
	j.done, j.err = true, err
	if b.job == j {
		b.job = nil
	}
	b.cond.Broadcast()
}

// Close is called by net/http when the request is over, and by a reset. A source that is being read
// is not interrupted: its owner closes it, which is what splicing does when one direction fails.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed == nil {
		b.closed = io.ErrClosedPipe
		b.pickup.end()
		if b.after != nil {
			b.after()
		}
	}
	if b.job != nil && b.job.src == nil {
		b.finishLocked(b.job, b.closed)
	}
	b.cond.Broadcast()
	return nil
}

// afterClose has f called when the request is over, or now if it is.
func (b *requestBody) afterClose(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.after = f; b.closed != nil {
		f()
	}
}

// run hands a job over and waits for its end.
func (b *requestBody) run(j *job) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.job != nil && b.closed == nil {
		b.cond.Wait() // for the early part, which was told to end
	}
	if b.closed != nil {
		return b.closed
	}
	b.job = j
	b.cond.Broadcast()
	for !j.done {
		if b.closed != nil && j.src != nil {
			// A reader may be inside src.Read; whoever owns src ends it. This writer need not wait
			// for that.
			b.job = nil
			return b.closed
		}
		b.cond.Wait()
	}
	return j.err
}

func (b *requestBody) send(p []byte) error { return b.run(&job{b: p}) }
func (b *requestBody) last(p []byte) error { return b.run(&job{b: p, last: true}) }

func (b *requestBody) write(p []byte) (int, error) { return sendData(p, b.send) }
func (b *requestBody) datagram(p []byte) error     { return sendDatagram(p, b.send) }
func (b *requestBody) move() error                 { return sendEmpty(capsule.Moved, b.last) }
func (b *requestBody) end(bool) error              { return sendEmpty(capsule.FinalData, b.last) }

func (b *requestBody) pull(src io.Reader, c *Conn) (int64, error) {
	j := &job{src: src, conn: c}
	err := b.run(j)
	b.mu.Lock()
	defer b.mu.Unlock()
	return j.total, err
}
