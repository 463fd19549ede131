package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"
)

// kinds are the kinds of flows, in the order of the report.
var kinds = []string{"requests", "stream", "idle", "datagrams"}

// kindOf shares out the kinds: of ten flows, four send requests, one streams, three idle, two send datagrams.
func kindOf(i int) string {
	return []string{"requests", "requests", "requests", "requests", "stream", "idle", "idle", "idle", "datagrams", "datagrams"}[i%10]
}

// flow is one flow through the tunnel and what became of it.
type flow struct {
	kind string
	seed uint64

	target   uint64 // the process that it first came to
	units    int    // requests that were answered, pieces of a stream, datagrams that came back
	up, down int64  // bytes that are known to have arrived whole
	lost     int    // datagrams without an answer
	err      error  // nil if all went well, to the end
}

var errContent = errors.New("what came is not what was sent")

// run carries the flow until stop is closed, or it breaks.
func (f *flow) run(m *mesh, stop <-chan struct{}) {
	if f.kind == "datagrams" {
		f.err = f.runDatagrams(m, stop)
		return
	}
	c, target, err := m.dial()
	if f.target, f.err = target, err; err != nil {
		return
	}
	defer c.Close()
	switch f.kind {
	case "requests":
		f.err = f.runRequests(c, stop)
	case "stream":
		f.err = f.runStream(c, stop)
	case "idle":
		f.err = f.runIdle(c, stop)
	}
}

// dial connects and returns which process answers.
func (m *mesh) dial() (c *net.TCPConn, target uint64, err error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.Dial("tcp", m.tcp)
	if err != nil {
		return nil, 0, err
	}
	var pid [8]byte
	conn.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.ReadFull(conn, pid[:]); err != nil {
		conn.Close()
		return nil, 0, err
	}
	conn.SetReadDeadline(time.Time{})
	return conn.(*net.TCPConn), binary.BigEndian.Uint64(pid[:]), nil
}

// bytesOf returns random bytes, from 1 to most of them.
func bytesOf(r *rand.ChaCha8, most int) []byte {
	p := make([]byte, 1+int(r.Uint64()%uint64(most)))
	r.Read(p)
	return p
}

// request sends a request and checks the answer.
func (f *flow) request(c net.Conn, p []byte) error {
	message := append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...)
	if _, err := c.Write(message); err != nil {
		return err
	}
	var answer [sha256.Size]byte
	c.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if answer != sha256.Sum256(p) {
		return errContent
	}
	f.units++
	f.up += int64(len(message))
	f.down += int64(len(answer))
	return nil
}

func (f *flow) runRequests(c *net.TCPConn, stop <-chan struct{}) error {
	if _, err := c.Write([]byte{requests}); err != nil {
		return err
	}
	content := source(f.seed, false)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := f.request(c, bytesOf(content, maxRequest)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-stop:
			return finish(c)
		}
	}
}

// runIdle sends one request at the beginning and one at the end.
func (f *flow) runIdle(c *net.TCPConn, stop <-chan struct{}) error {
	if _, err := c.Write([]byte{requests}); err != nil {
		return err
	}
	content := source(f.seed, false)
	if err := f.request(c, bytesOf(content, maxRequest)); err != nil {
		return err
	}
	waiting := make(chan struct{}) // closed when nobody reads any longer
	go func() {
		defer close(waiting)
		select {
		case <-stop:
			c.SetReadDeadline(time.Now()) // wakes the reader
		case <-waiting:
		}
	}()
	c.SetReadDeadline(time.Time{})
	n, err := c.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("while idle: %d bytes, %w", n, errors.Join(err))
	}
	<-waiting
	if err := f.request(c, bytesOf(content, maxRequest)); err != nil {
		return err
	}
	return finish(c)
}

// finish ends this direction and wants nothing but the end of the other.
func finish(c *net.TCPConn) error {
	if err := c.CloseWrite(); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(timeout))
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		return fmt.Errorf("at the end: %d bytes too many, %w", len(rest), errors.Join(err))
	}
	return nil
}

// runStream sends one stream and receives another.
func (f *flow) runStream(c *net.TCPConn, stop <-chan struct{}) error {
	if _, err := c.Write(append([]byte{stream}, number(f.seed)...)); err != nil {
		return err
	}
	sum := sha256.New()
	sent := make(chan error, 1) // the result of the sender; f.up and sum are right then
	broken := make(chan struct{})
	go func() { sent <- f.sendStream(c, sum, stop, broken) }()
	count, hash, err := f.receiveStream(c)
	close(broken)
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	if err == nil && (count != f.up || !bytes.Equal(hash, sum.Sum(nil))) {
		err = errContent
	}
	return err
}

func (f *flow) sendStream(c *net.TCPConn, sum io.Writer, stop, broken <-chan struct{}) error {
	content, piece := source(f.seed, false), make([]byte, pieceSize)
	tick := time.NewTicker(pieceEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return c.CloseWrite()
		case <-broken:
			return nil
		}
		content.Read(piece)
		sum.Write(piece)
		if _, err := c.Write(piece); err != nil {
			return err
		}
		f.up += pieceSize
	}
}

// receiveStream compares what comes with what must come, and returns what the target says of our direction.
func (f *flow) receiveStream(c *net.TCPConn) (count int64, hash []byte, err error) {
	content := source(f.seed, true)
	got, want := make([]byte, pieceSize), make([]byte, pieceSize)
	var size [4]byte
	for {
		c.SetReadDeadline(time.Now().Add(timeout))
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return 0, nil, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n == 0 {
			break
		}
		if n > pieceSize {
			return 0, nil, errContent
		}
		if _, err := io.ReadFull(c, got[:n]); err != nil {
			return 0, nil, err
		}
		if content.Read(want[:n]); !bytes.Equal(got[:n], want[:n]) {
			return 0, nil, errContent
		}
		f.units++
		f.down += int64(n)
	}
	rest, err := io.ReadAll(c)
	if err == nil && len(rest) != 8+sha256.Size {
		err = errContent
	}
	if err != nil {
		return 0, nil, err
	}
	return int64(binary.BigEndian.Uint64(rest)), rest[8:], nil
}
