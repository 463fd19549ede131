// Package h2 is HTTP/2 (RFC 9113) made for tunnels: sessions of many byte streams over one
// connection that is already authenticated.
//
//	Write  -> pending frames -> one write of the connection below       (writer.go: whoever writes flushes, once)
//	Read   <- chunks, or straight to a socket <- reader, one goroutine  (reader.go, receive.go, deliver.go)
//	windows follow the path (PING) and the memory there is              (window.go)
//	what a hostile peer can make us do is counted                       (flood.go)
//	http.Handler and http.RoundTripper, for requests that are no streams (http.go)
//
// It differs from net/http's in what tunnels need: both directions of a stream end by themselves, a
// stream at rest holds no buffer, a reader that stops holds up its own stream and no other, and a
// window grows to what the path wants.
//
// It knows no certificate: who the peer is, is settled before and handed in. What is received of
// HPACK is decoded by golang.org/x/net/http2/hpack; what is sent is in package wire.
package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"ztm/tunnel/h2/budget"
	"ztm/tunnel/h2/flood"
	"ztm/tunnel/h2/wire"
)

// Options of a connection. The zero value is useful, without a handler.
type Options struct {
	// Handler serves a stream that the peer has opened, in a goroutine of its own. The stream is
	// reset when it returns and has not ended. nil: a peer may open none.
	Handler func(*Stream)

	MaxStreams int            // that the peer may have open; 0 is 1024
	Window     int            // bytes: the first window of a stream; 0 is 256 KiB
	MaxWindow  int            // bytes: what it may grow to; 0 is 16 MiB
	RTT        time.Duration  // round trip to the peer as far as it is known
	Budget     *budget.Budget // what all connections hold together; nil: no limit
	Idle       time.Duration  // a PING is sent after so much silence; 0: never
	PingWait   time.Duration  // and the connection ends if nothing comes for so long after it; 0 is 15 s
	WriteWait  time.Duration  // a write to the connection that takes longer ends it; 0 is 60 s
	Busy       bool           // streams come and go: what serves them stays for a while
	Tag        any            // for the handler: see [Tag]

	over func() // called when the connection is over and its handlers have returned; may be nil
}

func (o Options) withDefaults() Options {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&o.MaxStreams, 1024)
	set(&o.Window, 256<<10)
	set(&o.MaxWindow, 16<<20)
	o.MaxWindow = max(o.MaxWindow, o.Window)
	if o.PingWait == 0 {
		o.PingWait = 15 * time.Second
	}
	if o.WriteWait == 0 {
		o.WriteWait = time.Minute
	}
	return o
}

// Conn is one connection, either end. It is safe for concurrent use. Make it with [Client] or
// [ServerConn].
type Conn struct {
	rw     net.Conn
	client bool
	o      Options
	done   chan struct{} // closed when the connection is over
	served sync.WaitGroup

	mu      sync.Mutex
	err     error              // why it is over; nil before
	streams map[uint32]*Stream // open ones
	nextID  uint32             // of our next stream
	last    uint32             // the largest id of the peer's streams that we have taken
	own     int                // open streams of ours
	theirs  int                // streams of the peer, and handlers that run
	peerMax int                // how many of ours the peer takes
	places  int                // reserved for streams of ours
	leaving bool               // a GOAWAY was sent or has come: no new streams
	onClose map[*func()]struct{}

	writer
	receiver
	servers
	flood flood.Counter
}

// ErrClosed is the error of a connection, or of a stream on it, after Close.
var ErrClosed = errors.New("h2: connection closed")

// ErrBusy says that the peer takes no more streams on this connection for now.
var ErrBusy = errors.New("h2: the peer takes no more streams")

// IsBusy reports whether a request was not sent, or not looked at, because the peer has as many as it
// takes: it may be sent again (RFC 9113 section 8.7).
func IsBusy(err error) bool {
	e := new(Error)
	return errors.Is(err, ErrBusy) || errors.As(err, &e) && e.Stream && e.Remote && e.Code == wire.RefusedStream
}

// Client begins as the client on rw, which it owns from now on. It returns at once.
func Client(rw net.Conn, o Options) *Conn { return newConn(rw, true, o) }

// ServerConn begins as the server on rw, which it owns from now on. It returns at once. If rw has a
// method Await, its reader waits there for more, on little stack, before it calls Read.
func ServerConn(rw net.Conn, o Options) *Conn { return newConn(rw, false, o) }

func newConn(rw net.Conn, client bool, o Options) *Conn {
	c := &Conn{rw: rw, client: client, o: o.withDefaults(), done: make(chan struct{}), streams: map[uint32]*Stream{}, nextID: 2, peerMax: 100}
	c.writer.init()
	c.receiver.init(c.o)
	c.idle = make(chan *Stream, mostKept) // nobody waits to send: each has a goroutine that takes it
	c.flood = flood.New()
	c.o.Budget.Connected(1)
	c.mu.Lock()
	if client {
		c.nextID = 1
		c.pending = append(c.pending, wire.Preface...)
	}
	c.pending = wire.AppendSettings(c.pending, c.settings()...)
	if grow := int64(c.connWindow) - wire.FirstWindow; grow > 0 {
		c.pending = wire.AppendWindow(c.pending, 0, grow)
	}
	c.flushSoonLocked()
	c.mu.Unlock()
	go c.run() // ends with the connection; Wait awaits it
	return c
}

func (c *Conn) settings() []wire.Setting {
	list := []wire.Setting{{ID: wire.SettingInitialWindow, Value: uint32(c.o.Window)}, {ID: wire.SettingMaxFrame, Value: wire.MaxFrame},
		{ID: wire.SettingMaxFields, Value: wire.MaxFields}}
	if c.client {
		return append(list, wire.Setting{ID: wire.SettingEnablePush, Value: 0}, wire.Setting{ID: wire.SettingMaxStreams, Value: 0})
	}
	return append(list, wire.Setting{ID: wire.SettingMaxStreams, Value: uint32(c.o.MaxStreams)})
}

// Done is closed when the connection is over.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection takes no more streams; nil if it does.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takesLocked()
}

// Reserve makes sure that one [Conn.Open] that follows is not refused as [ErrBusy]; [Conn.Release]
// gives the place back where none follows.
func (c *Conn) Reserve() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.takesLocked(); err != nil {
		return err
	}
	if c.own+c.places >= c.peerMax {
		return ErrBusy
	}
	c.places++
	return nil
}

// Release gives back what Reserve took.
func (c *Conn) Release() {
	c.mu.Lock()
	c.places = max(c.places-1, 0)
	c.mu.Unlock()
}

// Free returns how many streams could be opened that are not reserved.
func (c *Conn) Free() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.peerMax-c.own-c.places, 0)
}

// takesLocked returns why no stream can be opened.
func (c *Conn) takesLocked() error {
	switch {
	case c.err != nil:
		return c.err
	case c.leaving || c.nextID > wire.MaxWindow-2:
		return ErrClosed
	}
	return nil
}

// retire tells the peer to open no more streams.
func (c *Conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.pending = wire.AppendGoAway(c.pending, wire.MaxWindow, wire.NoError)
		c.flushSoonLocked()
	}
}

// OnClose has f called once, in a goroutine of its own, when the connection is over. stop takes
// that back.
func (c *Conn) OnClose(f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f() // the owner of f knows its end
		return func() {}
	}
	if c.onClose == nil {
		c.onClose = map[*func()]struct{}{}
	}
	c.onClose[&f] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.onClose, &f)
	}
}

// Close ends the connection and all its streams at once. It says GOAWAY if that can be said without
// waiting.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.failLocked(ErrClosed, wire.NoError)
	c.mu.Unlock()
	return nil
}

// Wait returns when the connection is over and all handlers have returned.
func (c *Conn) Wait() {
	<-c.done
	c.served.Wait()
}

// failLocked ends the connection: code goes into a GOAWAY.
func (c *Conn) failLocked(err error, code Code) {
	if c.err != nil {
		return
	}
	c.err, c.leaving = err, true
	for _, s := range c.streams {
		s.failLocked(err)
	}
	clear(c.streams)
	for f := range c.onClose {
		go (*f)() // the owner of the function knows its end
	}
	c.onClose = nil
	c.o.Budget.Shrink(c.grown)
	c.o.Budget.Connected(-1)
	c.wakeAllLocked()
	c.dismissLocked()
	c.pending = nil
	if !c.dead(err) {
		c.farewell = wire.AppendGoAway(nil, c.last, code)
	}
	close(c.done)
	if c.flushing && !c.dead(err) {
		time.AfterFunc(farewellWait, func() { c.rw.Close() }) // the write that is in progress may never end
		return
	}
	go c.lingeringClose(c.farewell) // ends within a second
	c.farewell = nil
}

// farewellWait is how long an end may take to be said.
const farewellWait = time.Second

// lingeringClose says GOAWAY and closes the connection below. Nobody else writes.
func (c *Conn) lingeringClose(farewell []byte) {
	if len(farewell) > 0 {
		c.rw.SetDeadline(time.Now().Add(farewellWait))
		c.rw.Write(farewell)
		var fault *Error
		if errors.As(c.err, &fault) && !fault.Remote { // static by now; the reader has ended with it
			// Closing with bytes unread would have the system send a reset, and the peer would not
			// hear why.
			io.CopyN(io.Discard, c.rw, mostLinger)
		}
	}
	c.rw.Close()
}

// mostLinger is how much is read of a peer that made a fault, in bytes, so that it hears of it.
const mostLinger = 1 << 20

// dead reports whether the connection below has failed, so that nothing is to be said on it.
func (c *Conn) dead(err error) bool {
	var ours *Error
	return !errors.As(err, &ours) && err != ErrClosed
}

// run reads until the connection is over.
func (c *Conn) run() {
	err := c.begin()
	below, _ := c.rw.(interface{ Await() })
	for ; err == nil; err = c.frame() {
		if below != nil {
			below.Await()
		}
	}
	code := wire.NoError
	var e *Error
	if errors.As(err, &e) {
		code = e.Code
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.mu.Lock()
	c.failLocked(err, code)
	c.stopTimersLocked()
	c.mu.Unlock()
	if c.o.over != nil {
		c.served.Wait()
		c.o.over()
	}
}

// begin reads the wire.Preface of a client.
func (c *Conn) begin() error {
	c.arm()
	if c.client {
		return nil
	}
	var b [len(wire.Preface)]byte
	if _, err := io.ReadFull(c.rw, b[:]); err != nil {
		return err
	}
	if !bytes.Equal(b[:], []byte(wire.Preface)) {
		return wire.ConnError(wire.ProtocolError, "no wire.Preface")
	}
	return nil
}

// Open opens a stream with a request. end says that the writing direction is over: there is no
// body. The request is sent with the first bytes that are written, or by [Stream.Flush],
// [Stream.Response] or [Stream.Read], whichever comes first: then it needs no packet of its own.
func (c *Conn) Open(f Fields, end bool) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.takesLocked(); err != nil {
		return nil, err
	}
	if c.places > 0 { // of this one, or of another that then finds a place or none, as it would have
		c.places--
	} else if c.own >= c.peerMax {
		return nil, ErrBusy
	}
	s := c.newStream(0)
	s.head, s.endHead = f, end
	c.own++
	return s, nil
}

// Ping measures a round trip. It fails when ctx ends or the connection is over.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	answer := make(chan time.Duration, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, c.err
	}
	c.pings = append(c.pings, answer)
	c.pingLocked()
	c.mu.Unlock()
	select {
	case d := <-answer:
		return d, nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pings = slices.DeleteFunc(c.pings, func(p chan time.Duration) bool { return p == answer })
		return 0, context.Cause(ctx)
	case <-c.done:
		return 0, c.Err()
	}
}
