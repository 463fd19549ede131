// The framing of datagrams on the local connection, each way:
//
//	| length, 2 bytes, big endian | payload, length bytes | length | payload | ...

package api

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"ztm/apps"
)

const headerBytes = 2 // holds every length up to apps.MaxDatagram

// Datagrams makes a connection of datagrams from one of bytes. Each Write sends one datagram of at
// most [apps.MaxDatagram] bytes, whole or not at all; each Read returns one. Read may be called by
// one goroutine at a time, Write and Close by any.
func Datagrams(c net.Conn) net.Conn {
	return &datagrams{Conn: c, in: bufio.NewReaderSize(c, headerBytes+apps.MaxDatagram)}
}

type datagrams struct {
	net.Conn
	in  *bufio.Reader // owned by the reader
	err error         // the first failure of Read; the framing is lost with it

	mu     sync.Mutex
	out    []byte // guarded by mu; one frame, so that it leaves in one write
	outErr error  // guarded by mu; the first failure of Write: part of a frame may be out
}

// Read reads one datagram into p. One that is longer than p is lost, with io.ErrShortBuffer.
func (d *datagrams) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.read(p)
	if err != nil && !errors.Is(err, io.ErrShortBuffer) && !timeout(err) {
		d.err = err
	}
	return n, err
}

// read waits with Peek until a frame is whole: a deadline that passes in the middle loses nothing.
func (d *datagrams) read(p []byte) (int, error) {
	header, err := d.in.Peek(headerBytes)
	if err != nil {
		return 0, cut(err, len(header) > 0)
	}
	length := int(binary.BigEndian.Uint16(header))
	if length > apps.MaxDatagram {
		return 0, fmt.Errorf("datagram of %d bytes: at most %d are allowed", length, apps.MaxDatagram)
	}
	frame, err := d.in.Peek(headerBytes + length)
	if err != nil {
		return 0, cut(err, true)
	}
	n := copy(p, frame[headerBytes:])
	if _, err := d.in.Discard(len(frame)); err != nil {
		return 0, err
	}
	if n < length {
		return n, io.ErrShortBuffer
	}
	return n, nil
}

// cut makes an end in the middle of a frame an error.
func cut(err error, middle bool) error {
	if middle && err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func timeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// Write sends p as one datagram.
func (d *datagrams) Write(p []byte) (int, error) {
	if len(p) > apps.MaxDatagram {
		return 0, fmt.Errorf("datagram of %d bytes: at most %d are allowed", len(p), apps.MaxDatagram)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = append(binary.BigEndian.AppendUint16(d.out[:0], uint16(len(p))), p...)
	if d.outErr == nil {
		_, d.outErr = d.Conn.Write(d.out)
	}
	if d.outErr != nil {
		return 0, d.outErr
	}
	return len(p), nil
}
