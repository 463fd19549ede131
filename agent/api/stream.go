// The framing of bytes on the local connection, each way:
//
//	| length, 4 bytes, big endian | payload, length bytes | length | payload | ... | 0 |
//
// A length of 0 is the end of a direction. A connection that ends without it was cut off, which a
// socket in the file system cannot say: the reader of one that was killed sees an end.

package api

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	lengthBytes = 4
	readAhead   = 4 << 10 // bytes; more than that is read to where it stays
	gathered    = 4 << 10 // bytes of a payload that are copied behind their length; more leave from where they are
	goodbye     = time.Second
)

var errCut = errors.New("the connection was cut off")

// Stream makes a connection that half-closes, and that tells an end from a failure, from one of
// bytes: it has CloseWrite, and Reset. Close without them ends it in order. Read may be called by
// one goroutine at a time, everything else by any.
func Stream(c net.Conn) net.Conn {
	return &stream{Conn: c, in: bufio.NewReaderSize(c, readAhead), to: written(c)}
}

type stream struct {
	net.Conn
	in   *bufio.Reader // owned by the reader
	left uint32        // of the frame that is being read; owned by the reader
	err  error         // how reading ended; owned by the reader

	to    net.Conn // below Conn: takes a length and a payload in one call
	mu    sync.Mutex
	out   []byte      // guarded by mu; a small frame, or a length
	parts [2][]byte   // guarded by mu; of a large frame
	pair  net.Buffers // guarded by mu; what is left of parts
	ended error       // guarded by mu; why nothing more is written
}

// written returns the connection that a wrapper passes its writes to.
func written(c net.Conn) net.Conn {
	for {
		w, ok := c.(interface{ WritesTo() net.Conn })
		if !ok {
			return c
		}
		c = w.WritesTo()
	}
}

// Read reads bytes. io.EOF is the end that the other side has set.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.left == 0 {
		length, err := s.in.Peek(lengthBytes) // a deadline that passes in the middle loses nothing
		if err != nil {
			return 0, s.failed(err)
		}
		s.left = binary.BigEndian.Uint32(length)
		s.in.Discard(lengthBytes)
		if s.left == 0 {
			s.err = io.EOF
			return 0, io.EOF
		}
	}
	n, err := s.payload(p)
	if err == nil && s.in.Buffered() == 0 && s.left > 0 && len(p)-n >= readAhead {
		more, _ := s.payload(p[n:]) // what was read ahead was the beginning: the rest of the frame is on its way
		n += more
	}
	return n, err
}

// payload reads what a frame has, once.
func (s *stream) payload(p []byte) (int, error) {
	n, err := s.in.Read(p[:min(uint64(len(p)), uint64(s.left))])
	s.left -= uint32(n)
	return n, s.failed(err)
}

// failed keeps an error of Read, but for a deadline that has passed.
func (s *stream) failed(err error) error {
	if err == io.EOF {
		err = errCut
	}
	if !timeout(err) {
		s.err = err
	}
	return err
}

// Write writes bytes.
func (s *stream) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) && err == nil {
		payload := p[n:min(len(p), n+maxPayload)]
		if err = s.frameLocked(payload); err == nil {
			n += len(payload)
		}
	}
	return n, err
}

// maxPayload is how much of a Write goes into one frame, in bytes.
const maxPayload = 1 << 20

// frameLocked writes a frame. A failure is for good: part of the frame may be out.
func (s *stream) frameLocked(payload []byte) error {
	if s.ended != nil {
		return s.ended
	}
	s.out = binary.BigEndian.AppendUint32(s.out[:0], uint32(len(payload)))
	if len(payload) <= gathered {
		s.out = append(s.out, payload...)
		_, s.ended = s.Conn.Write(s.out)
		return s.ended
	}
	s.parts = [2][]byte{s.out, payload}
	s.pair = s.parts[:]
	_, s.ended = s.pair.WriteTo(s.to)
	s.parts = [2][]byte{}
	return s.ended
}

// CloseWrite ends what this side sends.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == net.ErrClosed {
		return nil
	}
	err := s.frameLocked(nil)
	if err == nil {
		s.ended = net.ErrClosed
	}
	return err
}

// Close ends the connection. Where no Write is running and nothing has failed, the other side sees
// an end.
func (s *stream) Close() error {
	if s.mu.TryLock() {
		if s.ended == nil {
			s.SetWriteDeadline(time.Now().Add(goodbye)) // it may not be reading
			s.frameLocked(nil)
			s.ended = net.ErrClosed
		}
		s.mu.Unlock()
	}
	return s.Conn.Close()
}

// Reset ends the connection so that the other side sees a failure.
func (s *stream) Reset() error { return s.Conn.Close() }
