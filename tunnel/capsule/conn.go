package capsule

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one flow. It is a net.Conn with CloseWrite and Reset; it has no deadlines.
//
// One goroutine may read while another writes.
type Conn struct {
	in       reader
	out      sink
	datagram bool
	end      func(reset bool) // ends the request; called once
	drain    func() bool      // at the exit: takes the rest of the request; false if there is too much of it
	once     sync.Once
	wmu      sync.Mutex  // held by one Write, ReadFrom or CloseWrite at a time
	finished bool        // FINAL_DATA was sent; guarded by wmu
	heard    atomic.Bool // FINAL_DATA was read
	early    int         // bytes that Open has sent and that are still to be written; guarded by wmu
	reset    atomic.Bool
	sent     atomic.Int64
	received atomic.Int64
	ended    func() // static after OnEnd

	// The lane, see lane.go.
	onBulk    func() // static after OnBulk
	asked     atomic.Bool
	pieces    atomic.Int32
	hasLane   atomic.Bool
	laneReady chan struct{} // closed when lane is set or never will be
	reading   Lane          // owned by the reading goroutine; nil before it switched
	writing   Lane          // guarded by wmu; nil before it switched
	laneMu    sync.Mutex
	lane      Lane // guarded by laneMu; static once set
	over      bool // guarded by laneMu

	// See stall.go.
	gives watch                // until what was read is taken
	rest  atomic.Pointer[rest] // nil: WriteTo has the decoder
}

var _ net.Conn = (*Conn)(nil)

// reader is decoder or datagrams.
type reader interface {
	io.Reader
	clean() bool
}

func (d *decoder) clean() bool { return d.ended }

// sink is the writing half: the request body or the response.
type sink interface {
	// write sends b, which has room for a header in its first dataHeader bytes if it is data.
	write(b []byte) error
	// pull sends what src gives until src ends, or until c has a lane: then the error is errMoved.
	pull(src io.Reader, c *Conn) (int64, error)
	// finish sends last and ends the direction. If the other one has ended before, it may wait for the end of the request, which is
	// near.
	finish(last []byte, other bool) error
}

// ErrNoDeadline is what the deadline methods return: a flow has none, close it instead.
var ErrNoDeadline = errors.New("a flow has no deadlines")

var errWriteAfterClose = errors.New("write after CloseWrite")

// Sent and Received return the bytes of payload so far. They may be called at any time.
func (c *Conn) Sent() int64     { return c.sent.Load() }
func (c *Conn) Received() int64 { return c.received.Load() }

// OnEnd sets what is called, once, when the flow is closed or reset at this side. It is set before the first use.
func (c *Conn) OnEnd(f func()) { c.ended = f }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.reading == nil {
		switch n, err = c.in.Read(p); err {
		case errMoved:
			if err = c.readLane(); err == nil {
				return c.Read(p)
			}
		case io.EOF:
			c.heard.Store(true)
		}
	} else {
		n, err = c.reading.Read(p)
	}
	c.account(0, int64(n))
	return n, err
}

// WriteTo implements io.WriterTo: for byte streams alone.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	d, ok := c.in.(*decoder)
	if !ok {
		return io.Copy(w, struct{ io.Reader }{c})
	}
	if c.reading == nil {
		total, err = d.WriteTo(watched{w, c})
		if err == errTaken {
			var n int64
			n, err = c.writeRest(w)
			total, err = total+n, ended(err)
		}
		if err == nil {
			c.heard.Store(true)
		}
		if err != errMoved {
			return total, err
		}
		if err := c.readLane(); err != nil {
			return total, err
		}
	}
	n, err := c.drainLane(w)
	return total + n, err
}

// Write implements net.Conn. On a flow of datagrams it sends one, of at most 65,507 bytes.
func (c *Conn) Write(p []byte) (total int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.finished {
		return 0, errWriteAfterClose
	}
	if c.datagram {
		if len(p) > maxDatagram {
			return 0, errors.New("datagram too large")
		}
		if err := c.out.write(appendDatagram(make([]byte, 0, len(p)+8), p)); err != nil {
			return 0, err
		}
		c.sent.Add(int64(len(p)))
		return len(p), nil
	}
	moved, err := c.writeLaneLocked()
	if err != nil {
		return 0, err
	}
	total = min(c.early, len(p))
	c.early -= total
	c.account(int64(total), 0)
	p = p[total:]
	if moved {
		n, err := c.writing.Write(p)
		c.account(int64(n), 0)
		return total + n, err
	}
	room := buffers.Get().(*[]byte)
	defer buffers.Put(room)
	buf := *room
	for len(p) > 0 {
		n := copy(buf[dataHeader:], p)
		putDataHeader(buf, typeData, n)
		if err := c.out.write(buf[:dataHeader+n]); err != nil {
			return total, err
		}
		c.account(int64(n), 0)
		total += n
		p = p[n:]
	}
	return total, nil
}

// ReadFrom implements io.ReaderFrom without a copy: src is read straight into the frame that is sent.
func (c *Conn) ReadFrom(src io.Reader) (int64, error) {
	if c.datagram {
		return copyDatagrams(c, src)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	total, err := c.beginLocked(src)
	if err == nil {
		var n int64
		n, err = c.out.pull(src, c) // a flow at rest waits here
		total += n
	}
	if err == errMoved {
		return c.pullLaneLocked(src, total)
	}
	return total, ended(err)
}

func copyDatagrams(dst io.Writer, src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{dst}, src)
}

// beginLocked is the beginning of ReadFrom: it skips what was sent early. The error is errMoved if the flow has moved. c.wmu is held.
func (c *Conn) beginLocked(src io.Reader) (total int64, err error) {
	if c.finished {
		return 0, errWriteAfterClose
	}
	moved, err := c.writeLaneLocked()
	if err == nil {
		total, err = c.skipLocked(src)
	}
	if err == nil && moved {
		err = errMoved
	}
	return total, err
}

// skipLocked takes from src what Open has sent already. c.wmu is held.
func (c *Conn) skipLocked(src io.Reader) (total int64, err error) {
	if c.early == 0 {
		return 0, nil
	}
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	for c.early > 0 && err == nil {
		var n int
		n, err = src.Read((*p)[:min(c.early, len(*p))])
		c.early -= n
		total += int64(n)
		c.account(int64(n), 0)
	}
	return total, err
}

// ended is what the error of a source is to ReadFrom.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// CloseWrite ends the writing direction: the peer reads to the end, then io.EOF.
func (c *Conn) CloseWrite() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.finished {
		return nil
	}
	c.finished = true
	if c.writing != nil {
		return c.writing.CloseWrite()
	}
	var last [dataHeader]byte
	putDataHeader(last[:], typeFinalData, 0)
	return c.out.finish(last[:], c.heard.Load())
}

// Close ends both directions. What was written before reaches the peer, which then reads io.EOF; what the peer
// still sends is lost. If another goroutine is in the middle of a Write, Close resets instead of waiting for it.
func (c *Conn) Close() error {
	c.once.Do(func() {
		clean := c.wmu.TryLock()
		if clean {
			finished := c.finished
			c.wmu.Unlock()
			clean = finished || c.closeWriteSoon()
		}
		c.finish(!clean)
	})
	return nil
}

// closeWriteSoon is CloseWrite with a limit to its patience: a peer that reads nothing must not hold up Close.
func (c *Conn) closeWriteSoon() bool {
	done := make(chan error, 1)
	go func() { done <- c.CloseWrite() }() // ends by itself, or when end resets the request
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err == nil
	case <-timer.C:
		return false
	}
}

const closePatience = 5 * time.Second

// Reset ends both directions so that the peer sees an error, not an end. It never waits.
func (c *Conn) Reset() error {
	c.reset.Store(true)
	c.once.Do(func() { c.finish(true) })
	return nil
}

func (c *Conn) finish(reset bool) {
	c.endLane(reset)
	c.end(reset)
	if c.ended != nil {
		c.ended()
	}
}

func (c *Conn) LocalAddr() net.Addr              { return flowAddr{} }
func (c *Conn) RemoteAddr() net.Addr             { return flowAddr{} }
func (c *Conn) SetDeadline(time.Time) error      { return ErrNoDeadline }
func (c *Conn) SetReadDeadline(time.Time) error  { return ErrNoDeadline }
func (c *Conn) SetWriteDeadline(time.Time) error { return ErrNoDeadline }

type flowAddr struct{}

func (flowAddr) Network() string { return "ztm" }
func (flowAddr) String() string  { return "flow" }

func newConn(in io.Reader, out sink, datagram bool) *Conn {
	c := &Conn{out: out, datagram: datagram, laneReady: make(chan struct{})}
	if datagram {
		c.in = &datagrams{decoder{r: in}}
	} else {
		c.in = &decoder{r: in}
	}
	c.gives.onStall(func() {
		c.relieve()
		c.askLane()
	})
	return c
}

// Header marks a request or response that speaks capsules (RFC 9297 section 3.4).
const Header = "Capsule-Protocol"

// Early gives the first bytes of the writing direction while the flow is being opened.
type Early interface {
	// Read is as that of an io.Reader. Its end, or a failure, ends the early part and not the direction.
	Read(p []byte) (int, error)

	// Stop makes Read return, now and from now on, and returns how many bytes it has given.
	Stop() int
}

// Open sends req, whose body becomes the writing direction, and waits for the exit's answer. A status other than 200 is returned as a
// response, whose body the caller closes, and no Conn. ctx governs the opening; the flow lives until it is closed.
//
// What early gives, if it is not nil, follows the request at once. Open has stopped it when it returns. The Conn leaves out as many of the
// bytes that are written to it: they are the same ones.
func Open(ctx context.Context, rt http.RoundTripper, req *http.Request, datagrams bool, early Early) (*Conn, *http.Response, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	body := newPuller()
	if early != nil {
		body.job = &job{src: early}
	}
	req = req.WithContext(life)
	req.Body = body
	req.Header.Set(Header, "?1")
	stop := context.AfterFunc(ctx, cancel)
	resp, err := rt.RoundTrip(req)
	sent := 0
	if early != nil {
		sent = early.Stop()
	}
	if !stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body.Close()
		resp.Body = cancelBody{resp.Body, cancel}
		return nil, resp, nil
	}
	c := newConn(resp.Body, body, datagrams)
	c.early = sent
	body.waits.onStall(c.askLane)
	c.end = func(reset bool) {
		if reset {
			body.Close()
			cancel()
			resp.Body.Close()
			return
		}
		if c.heard.Load() { // and so the request ends when its own end is sent
			impatient := time.AfterFunc(closePatience, cancel)
			body.afterClose(func() { impatient.Stop() })
			return
		}
		go linger(resp.Body, cancel)
	}
	return c, resp, nil
}

// linger lets the end of the request be sent, which closing the response at once would cut off, and throws away what
// still comes. It ends with the peer's end, and after closePatience in any case.
func linger(body io.ReadCloser, cancel context.CancelFunc) {
	timer := time.AfterFunc(closePatience, cancel)
	io.Copy(io.Discard, body)
	timer.Stop()
	body.Close()
	cancel()
}

type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// Accept answers a request with 200. The handler calls [Conn.Finish] before it returns, and panics with
// http.ErrAbortHandler if that reports a reset: this is how net/http resets a stream.
func Accept(w http.ResponseWriter, r *http.Request, datagrams bool) (*Conn, error) {
	rc := http.NewResponseController(w)
	w.Header().Set(Header, "?1")
	w.Header()["Date"] = nil // or net/http adds one
	w.WriteHeader(http.StatusOK)
	if err := rc.Flush(); err != nil {
		return nil, err
	}
	c := newConn(r.Body, &response{w, rc}, datagrams)
	c.end = func(reset bool) {
		if reset { // wakes a Read and a Write that wait; the handler resets the stream
			past := time.Unix(1, 0)
			c.reset.Store(true)
			rc.SetReadDeadline(past)
			rc.SetWriteDeadline(past)
		}
	}
	c.drain = func() bool {
		impatient := time.AfterFunc(closePatience, func() { rc.SetReadDeadline(time.Unix(1, 0)) })
		defer impatient.Stop()
		_, err := io.CopyN(io.Discard, r.Body, maxDrained)
		return err != nil
	}
	return c, nil
}

// maxDrained is what an exit that has closed still takes of a peer that goes on sending, in bytes. More is answered with a reset.
const maxDrained = 64 << 10

// Finish closes the flow at the exit, after the app is done with it, and reports whether the stream must be reset.
//
// A handler that returns with its request half read ends the whole stream, and what the peer has not read of the answer could be lost with
// it. So Finish waits until the peer has ended its direction, too, for closePatience at most.
func (c *Conn) Finish() (reset bool) {
	c.Close()
	return c.reset.Load() || !c.drain() || c.reset.Load()
}
