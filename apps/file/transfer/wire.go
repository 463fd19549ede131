// Package transfer copies files and directories over one flow, from a sender to a receiver, whichever
// of them asked for it.
//
//	sender    walk -> entry, entry, ...  data, hole, zeros, sum  ...  done ->
//	receiver  <- want (what of a large file is here already), refused        check, write, rename; <- final
//
// Nothing waits for an answer but the content of a large file: entries are told ahead of their
// content, so the answer has come by then. A directory of small files is one stream.
//
// A file travels in blocks of one MiB, each with its CRC-32C. A block that is a hole of the file
// travels as a number. The receiver writes beside the final name, and keeps what has come. What it
// has already is offered as SHA-256 of blocks; the sender compares them with its file and goes on
// behind the last that agrees.
//
// The sealed session lets nobody change what is on its way, so the CRC has accidents to find: in
// memory, and in what passes a copy on. Two files that are compared may be made to look alike, which
// is why that takes a hash.
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
	"ztm/tunnel/splice"
)

type kind uint8

const (
	kindEntry  kind = 0x01 // an [entry], JSON; numbered from 0 by their order
	kindFrom   kind = 0x02 // where the content of the next large file begins: 8 bytes
	kindData   kind = 0x03 // content
	kindHole   kind = 0x04 // zeros within a block: 4 bytes, their number
	kindZeros  kind = 0x05 // whole blocks of zeros: 8 bytes, the number of bytes
	kindSum    kind = 0x06 // CRC-32C of the block that ends here: 4 bytes
	kindFailed kind = 0x07 // the next file will not be complete: text for people
	kindTotal  kind = 0x08 // how much there will be: files and bytes, 8 bytes each
	kindDone   kind = 0x09 // there is no more

	kindWant    kind = 0x81 // number of the entry (4), blocks in a group (4), flags (1), hashes of groups
	kindSkip    kind = 0x82 // number of the entry (4): it is here
	kindRefused kind = 0x83 // number of the entry (4), text for people: its content is not wanted
	kindFinal   kind = 0x84 // a [Report], JSON

	kindBusy  kind = 0x40 // either way: still at work; empty
	kindAbort kind = 0x41 // either way: an [answer.Error]; the last frame
)

const (
	header     = 4 // kind, length
	block      = 1 << 20
	chunk      = 128 << 10 // of data in a frame
	small      = 64 << 10  // of a file that nothing is asked about; of a buffer for many frames
	readAhead  = 16 << 10  // of frames; data is read to where it stays
	sumSize    = 4
	hashSize   = 32
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
		return 1, chunk, true
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
		return wantHead, wantHead + maxGroups*hashSize, true
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

// link is a flow that carries frames. One goroutine reads; any may write.
type link struct {
	conn net.Conn
	r    *bufio.Reader
	from kind   // direction of what is read
	buf  []byte // of the last frame read

	turn chan struct{} // capacity 1: full while somebody writes
	w    *bufio.Writer

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
	l := &link{conn: conn, from: from, w: bufio.NewWriterSize(conn, small+header), idle: idle, stop: make(chan struct{})}
	l.r = bufio.NewReaderSize(heard{l}, readAhead)
	l.turn = make(chan struct{}, 1)
	l.watch = time.AfterFunc(idle, l.giveUp)
	l.beating.Go(l.beat)
	return l
}

// heard reads from a flow. Whatever comes is a sign of life: a whole frame may take long.
type heard struct{ l *link }

func (h heard) Read(p []byte) (int, error) {
	n, err := h.l.conn.Read(p)
	if n > 0 {
		h.l.watch.Reset(h.l.idle)
	}
	return n, err
}

func (l *link) giveUp() {
	l.silent.Store(true)
	splice.Abort(l.conn)
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
	close(l.stop)
	l.watch.Stop()
	if err != nil {
		splice.Abort(l.conn)
	} else {
		l.conn.Close()
	}
	l.beating.Wait()
	if err != nil && l.silent.Load() {
		return errSilent
	}
	return err
}

// send writes a frame; it may stay in the buffer.
func (l *link) send(k kind, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	var h [header]byte
	putHead(h[:], k, n)
	_, err := l.w.Write(h[:])
	for _, p := range parts {
		if err == nil {
			_, err = l.w.Write(p)
		}
	}
	if err == nil && k != kindBusy {
		l.watch.Reset(l.idle)
	}
	return err
}

// putHead writes the head of a frame to the beginning of its buffer.
func putHead(b []byte, k kind, n int) { binary.BigEndian.PutUint32(b, uint32(k)<<24|uint32(n)) }

// sendWhole writes a frame whose head is in its buffer already, so that a large one is not copied.
func (l *link) sendWhole(frame []byte) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	_, err := l.w.Write(frame)
	if err == nil {
		l.watch.Reset(l.idle)
	}
	return err
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

func (l *link) flush() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.w.Flush()
}

// abort tells the other side why this one gives up.
func (l *link) abort(err error) error {
	e := *answer.Public(err)
	e.Message = e.Message[:min(len(e.Message), maxText/2)]
	return errors.Join(l.sendJSON(kindAbort, e), l.flush())
}

var errProtocol = answer.Errorf(answer.BadRequest, "the other side does not keep to the protocol")

// next reads a frame that is for this side. The payload is valid until the following call.
func (l *link) next() (kind, []byte, error) {
	for {
		var h [header]byte
		if _, err := io.ReadFull(l.r, h[:]); err != nil {
			return 0, nil, noEOF(err)
		}
		k, n := kind(h[0]), int(binary.BigEndian.Uint32(h[:])&0xffffff)
		low, high, ok := bounds(k)
		if !ok || k&0x40 == 0 && k&0x80 != l.from || n < low || n > high {
			return 0, nil, fmt.Errorf("%w: a frame of kind %#02x with %d bytes", errProtocol, h[0], n)
		}
		if cap(l.buf) < n {
			l.buf = make([]byte, max(n, small))
		}
		p := l.buf[:n]
		if _, err := io.ReadFull(l.r, p); err != nil {
			return 0, nil, noEOF(err)
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
