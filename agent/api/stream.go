// The framing of bytes on the local connection, each way:
//
//	| length, 2 bytes, big endian | payload, length bytes | length | payload | ... | 0 |
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
	maxChunk = 32 << 10 // bytes of payload that one frame has when we write it
	goodbye  = time.Second
)

var errCut = errors.New("the connection was cut off")

// Stream makes a connection that half-closes, and that tells an end from a failure, from one of
// bytes: it has CloseWrite, and Reset. Close without them ends it in order. Read may be called by
// one goroutine at a time, everything else by any.
func Stream(c net.Conn) net.Conn {
	return &stream{Conn: c, in: bufio.NewReaderSize(c, maxChunk)}
}

type stream struct {
	net.Conn
	in   *bufio.Reader // owned by the reader
	left int           // of the frame that is being read; owned by the reader
	err  error         // how reading ended; owned by the reader

	mu    sync.Mutex
	out   []byte // guarded by mu; one frame, so that it leaves in one write
	ended error  // guarded by mu; why nothing more is written
}

// Read reads bytes. io.EOF is the end that the other side has set.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.left == 0 {
		header, err := s.in.Peek(headerBytes) // a deadline that passes in the middle loses nothing
		if err != nil {
			return 0, s.failed(err)
		}
		s.left = int(binary.BigEndian.Uint16(header))
		s.in.Discard(headerBytes)
		if s.left == 0 {
			s.err = io.EOF
			return 0, io.EOF
		}
	}
	n, err := s.in.Read(p[:min(len(p), s.left)])
	s.left -= n
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
		chunk := p[n:min(len(p), n+maxChunk)]
		if err = s.frameLocked(chunk); err == nil {
			n += len(chunk)
		}
	}
	return n, err
}

// frameLocked writes a frame. A failure is for good: part of the frame may be out.
func (s *stream) frameLocked(payload []byte) error {
	if s.ended == nil {
		s.out = append(binary.BigEndian.AppendUint16(s.out[:0], uint16(len(payload))), payload...)
		_, s.ended = s.Conn.Write(s.out)
	}
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
