package capsule

import (
	"io"
	"net/http"
	"sync"

	"ztm/tunnel/room"
)

// response is the sink at the exit.
type response struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// passThrough is net/http's own buffer before the frame writer: a write of at least this many bytes to an empty buffer
// is sent at once, a smaller one waits for a flush.
const passThrough = 4 << 10

func (s *response) write(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	if len(b) >= passThrough {
		return nil
	}
	return s.rc.Flush()
}

// finish leaves last to the end of the response where that is near: then they share a frame.
func (s *response) finish(last []byte, other bool) error {
	if !other {
		return s.write(last)
	}
	_, err := s.w.Write(last)
	return err
}

func (s *response) pull(src io.Reader, c *Conn) (total int64, err error) {
	in := room.Room{Ladder: shared}
	defer in.Release()
	for !c.Moved() {
		b := in.Next(nil)
		n, rerr := src.Read(b[dataHeader:])
		in.Brought(dataHeader + n)
		if n > 0 {
			putDataHeader(b, typeData, n)
			if err := s.write(b[:dataHeader+n]); err != nil {
				return total, err
			}
			total += int64(n)
			c.account(int64(n), 0)
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
	return total, errMoved
}

// puller is the sink at the entrance: a request body. net/http's goroutine reads it; a writer hands over either a slice
// or a source, and waits until it is used up.
type puller struct {
	mu     sync.Mutex
	cond   sync.Cond
	job    *job   // what to send; nil: nothing
	eof    bool   // nothing more comes
	closed error  // the request is over
	after  func() // called when it is; may be nil
	waits  watch  // until net/http comes for the next frame
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

func newPuller() *puller {
	p := &puller{}
	p.cond.L = &p.mu
	return p
}

// Read gives net/http the next frame.
func (p *puller) Read(b []byte) (int, error) {
	p.waits.end()
	n, err := p.frame(b)
	if err == nil {
		p.waits.begin()
	}
	return n, err
}

func (p *puller) frame(b []byte) (int, error) {
	for {
		j, err := p.next()
		if err != nil {
			return 0, err
		}
		if j.src == nil {
			return p.readSlice(j, b)
		}
		if n, err := p.readSource(j, b); n > 0 || err != nil {
			return n, err
		}
	}
}

// next waits for something to send.
func (p *puller) next() (*job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.job == nil && !p.eof && p.closed == nil {
		p.cond.Wait()
	}
	if p.closed != nil {
		return nil, p.closed
	}
	if p.job == nil {
		return nil, io.EOF
	}
	return p.job, nil
}

// readSlice gives the last bytes together with the end: then they share a frame.
func (p *puller) readSlice(j *job, b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = copy(b, j.b)
	if j.b = j.b[n:]; len(j.b) > 0 {
		return n, nil
	}
	if j.last {
		p.eof, err = true, io.EOF
	}
	p.finishLocked(j, nil)
	return n, err
}

// readSource reads the job's source into b behind the header's place. It holds no lock meanwhile: Close must get through.
// Without a byte and an error the job is over, and there may be another.
func (p *puller) readSource(j *job, b []byte) (n int, err error) {
	if len(b) <= dataHeader { // net/http's buffers are far larger
		return 0, io.ErrShortBuffer
	}
	b = b[:min(len(b), requestFrame)]
	if j.conn != nil && j.conn.Moved() {
		err = errMoved
	} else {
		n, err = j.src.Read(b[dataHeader:])
	}
	if n > 0 {
		putDataHeader(b, typeData, n)
		if j.conn != nil {
			j.conn.account(int64(n), 0)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > 0 {
		j.total += int64(n)
		n += dataHeader
	}
	if err == io.EOF {
		p.finishLocked(j, nil)
	} else if err != nil {
		p.finishLocked(j, err)
	}
	if p.closed != nil {
		return 0, p.closed
	}
	return n, nil
}

func (p *puller) finishLocked(j *job, err error) {
	j.done, j.err = true, err
	if p.job == j {
		p.job = nil
	}
	p.cond.Broadcast()
}

// Close is called by net/http when the request is over, and by a reset. A source that is being read is not interrupted:
// its owner closes it, which is what splicing does when one direction fails.
func (p *puller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.closed = io.ErrClosedPipe
		p.waits.end()
		if p.after != nil {
			p.after()
		}
	}
	if p.job != nil && p.job.src == nil {
		p.finishLocked(p.job, p.closed)
	}
	p.cond.Broadcast()
	return nil
}

// afterClose has f called when the request is over, or now if it is.
func (p *puller) afterClose(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.after = f; p.closed != nil {
		f()
	}
}

func (p *puller) run(j *job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.job != nil && p.closed == nil {
		p.cond.Wait() // for the early part, which was told to end
	}
	if p.closed != nil {
		return p.closed
	}
	p.job = j
	p.cond.Broadcast()
	for !j.done {
		if p.closed != nil && j.src != nil {
			// A reader may be inside src.Read; whoever owns src ends it. This writer need not wait for that.
			p.job = nil
			return p.closed
		}
		p.cond.Wait()
	}
	return j.err
}

func (p *puller) write(b []byte) error { return p.run(&job{b: b}) }

func (p *puller) finish(last []byte, _ bool) error { return p.run(&job{b: last, last: true}) }

func (p *puller) pull(src io.Reader, c *Conn) (int64, error) {
	j := &job{src: src, conn: c}
	err := p.run(j)
	return p.moved(j), err
}

// moved returns how many bytes a job has taken from its source.
func (p *puller) moved(j *job) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return j.total
}
