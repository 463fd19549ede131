// Package transfer copies files and directories over one flow, from a sender to a receiver, whichever
// of them asked for it.
//
//	sender    walk -> entry, entry, ...  data, hole, zeros, sum  ...  done ->
//	receiver  <- want (what of a large file is here already), refused        check, write, rename; <- final
//
// Nothing waits for an answer but the content of a large file: entries are told ahead of their
// content, so the answer has come by then. A directory of small files is one stream.
//
// Of a large file several pieces are on their way at a time, through as many buffers:
//
//	sender    read and hash -> seal and send        receiver  open, check -> write
//
// A file travels in blocks of one MiB, each with its SHA-256. A block that is a hole of the file
// travels as a number. The receiver writes beside the final name, and keeps what has come. What it
// has already is offered as sums of blocks; the sender compares them with its file and goes on behind
// the last that agrees.
//
// Entries have a depth and a name, and no path. A name is one segment, and its directory is one that
// was announced before it. The name of what was asked for is the receiver's own choice.
package transfer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/memory"
)

type kind uint8

const (
	kindEntry  kind = 0x01 // an [entry], JSON; numbered from 0 by their order
	kindFrom   kind = 0x02 // where the content of the next large file begins: 8 bytes
	kindData   kind = 0x03 // content
	kindHole   kind = 0x04 // zeros within a block: 4 bytes, their number
	kindZeros  kind = 0x05 // whole blocks of zeros: 8 bytes, the number of bytes
	kindSum    kind = 0x06 // SHA-256 of the block that ends here
	kindFailed kind = 0x07 // the next file will not be complete: text for people
	kindTotal  kind = 0x08 // how much there will be: files and bytes, 8 bytes each
	kindDone   kind = 0x09 // there is no more

	kindWant    kind = 0x81 // number of the entry (4), blocks in a group (4), flags (1), sums of groups
	kindSkip    kind = 0x82 // number of the entry (4): it is here
	kindRefused kind = 0x83 // number of the entry (4), text for people: its content is not wanted
	kindFinal   kind = 0x84 // a [Report], JSON

	kindBusy  kind = 0x40 // either way: still at work; empty
	kindAbort kind = 0x41 // either way: an [answer.Error]; the last frame
)

const (
	header     = 4        // kind, length
	readAhead  = 32 << 10 // of small frames; what is longer is read to where it belongs
	block      = 1 << 20
	chunk      = 64 << 10 // of data in a frame, where the file is not large
	sumSize    = 32
	maxGroups  = 2000
	maxEntry   = 8 << 10
	maxText    = 1 << 10
	maxReport  = 1 << 20
	wantHead   = 9
	ahead      = 64 // entries whose content has not been sent
	fromSender = 0x00
	fromTaker  = 0x80

	// MaxFile is the largest size of a file, in bytes.
	MaxFile = 1 << 42
)

// bounds returns the shortest and the longest payload of a kind; ok is false for an unknown kind.
func bounds(k kind) (low, high int, ok bool) {
	switch k {
	case kindEntry:
		return 2, maxEntry, true
	case kindFrom, kindZeros:
		return 8, 8, true
	case kindData:
		return 1, block, true
	case kindHole, kindSkip:
		return 4, 4, true
	case kindSum:
		return sumSize, sumSize, true
	case kindFailed:
		return 0, maxText, true
	case kindTotal:
		return 16, 16, true
	case kindDone, kindBusy:
		return 0, 0, true
	case kindWant:
		return wantHead, wantHead + maxGroups*sumSize, true
	case kindRefused:
		return 4, 4 + maxText, true
	case kindFinal:
		return 2, maxReport, true
	case kindAbort:
		return 2, 2 * maxText, true
	}
	return 0, 0, false
}

// IdleTimeout is how long either side waits for a sign of life of the other.
const IdleTimeout = time.Minute

// errSilent is why a flow was ended by its watch.
var errSilent = answer.Errorf(answer.Timeout, "the other side has been silent for %v", IdleTimeout)

// piece is how much of a large file is read, sealed or written at once, in bytes. A frame of content
// may be longer; it is taken in pieces.
var piece = sync.OnceValue(func() int {
	if memory.Here().Small() {
		return chunk
	}
	return 4 * chunk
})

// link is a flow that carries frames. One goroutine reads; any may write.
type link struct {
	conn net.Conn
	r    *bufio.Reader
	from kind   // direction of what is read
	buf  []byte // of the last frame read
	left int    // bytes of content that the last frame still has

	turn chan struct{} // capacity 1: full while somebody adds to out
	out  *coalescer

	idle    time.Duration
	watch   *time.Timer // fires when nothing was read or written for so long
	stop    chan struct{}
	beating sync.WaitGroup
	silent  atomic.Bool // the watch has ended the flow
}

// newLink begins to watch a flow. close ends that.
func newLink(conn net.Conn, from kind, idle time.Duration) *link {
	if idle == 0 {
		idle = IdleTimeout
	}
	l := &link{conn: conn, r: bufio.NewReaderSize(conn, readAhead), from: from, out: newCoalescer(conn), idle: idle, stop: make(chan struct{})}
	l.turn = make(chan struct{}, 1)
	l.watch = time.AfterFunc(idle, l.giveUp)
	l.beating.Go(l.beat)
	return l
}

func (l *link) giveUp() {
	l.silent.Store(true)
	reset(l.conn)
}

// reset ends a flow so that the other side sees a failure.
func reset(conn net.Conn) {
	if r, ok := conn.(interface{ Reset() error }); ok {
		r.Reset()
		return
	}
	conn.Close()
}

// beat tells the other side that this one is alive, also while it reads a large file for itself.
func (l *link) beat() {
	tick := time.NewTicker(l.idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if l.send(kindBusy) != nil || l.flush() != nil {
				return
			}
		case <-l.stop:
			return
		}
	}
}

// close ends the flow, and returns the reason for an error that came from its end.
func (l *link) close(err error) error {
	if err == nil {
		err = l.drain()
	}
	close(l.stop)
	l.watch.Stop()
	if err != nil {
		reset(l.conn)
	} else {
		l.conn.Close()
	}
	l.beating.Wait()
	l.out.close()
	if err != nil && l.silent.Load() {
		return errSilent
	}
	return err
}

// send writes a frame; it may stay in the buffer. An error is that of an earlier one.
func (l *link) send(k kind, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	h := head(k, n)
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.out.append(h[:])
	for _, p := range parts {
		l.out.append(p)
	}
	return l.sentLocked(k)
}

// sendRoom writes a frame of content that is in a buffer of the coalescer.
func (l *link) sendRoom(b []byte) error {
	h := head(kindData, len(b)-lead-header)
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.out.put(b, h)
	return l.sentLocked(kindData)
}

func (l *link) sentLocked(k kind) error {
	err := l.out.failed()
	if err == nil && k != kindBusy {
		l.watch.Reset(l.idle)
	}
	return err
}

func head(k kind, n int) (h [header]byte) {
	binary.BigEndian.PutUint32(h[:], uint32(k)<<24|uint32(n))
	return h
}

func (l *link) sendJSON(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, high, _ := bounds(k); len(b) > high {
		return fmt.Errorf("a frame of kind %#02x with %d bytes", k, len(b))
	}
	return l.send(k, b)
}

// flush has all frames written, and does not wait for that.
func (l *link) flush() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.out.flush()
	return l.out.failed()
}

// drain waits until all frames are written.
func (l *link) drain() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.out.drain()
}

// abort tells the other side why this one gives up.
func (l *link) abort(err error) error {
	e := *answer.Public(err)
	e.Message = e.Message[:min(len(e.Message), maxText/2)]
	return errors.Join(l.sendJSON(kindAbort, e), l.drain())
}

var errProtocol = answer.Errorf(answer.BadRequest, "the other side does not keep to the protocol")

// next reads a frame that is for this side, or a piece of one of content. The payload is valid until
// the following call.
func (l *link) next() (kind, []byte, error) {
	for {
		if l.left > 0 {
			return l.nextPiece()
		}
		var h [header]byte
		if _, err := io.ReadFull(l.r, h[:]); err != nil {
			return 0, nil, noEOF(err)
		}
		l.watch.Reset(l.idle)
		k, n := kind(h[0]), int(binary.BigEndian.Uint32(h[:])&0xffffff)
		low, high, ok := bounds(k)
		if !ok || k&0x40 == 0 && k&0x80 != l.from || n < low || n > high {
			return 0, nil, fmt.Errorf("%w: a frame of kind %#02x with %d bytes", errProtocol, h[0], n)
		}
		if k == kindData {
			l.left = n
			continue
		}
		p, err := l.payload(n)
		if err != nil {
			return 0, nil, err
		}
		switch k {
		case kindBusy:
		case kindAbort:
			return 0, nil, aborted(p)
		default:
			return k, p, nil
		}
	}
}

// nextPiece reads the next piece of a frame of content.
func (l *link) nextPiece() (kind, []byte, error) {
	p, err := l.payload(min(l.left, piece()))
	l.left -= len(p)
	return kindData, p, err
}

func (l *link) payload(n int) ([]byte, error) {
	if cap(l.buf) < n {
		l.buf = make([]byte, max(n, chunk))
	}
	p := l.buf[:n]
	_, err := io.ReadFull(l.r, p)
	return p, noEOF(err)
}

func aborted(p []byte) error {
	e := &answer.Error{}
	if json.Unmarshal(p, e) != nil || e.Message == "" {
		return fmt.Errorf("%w: no reason in the last frame", errProtocol)
	}
	return e
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
