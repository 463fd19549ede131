package flow

import (
	"io"
	"net/http"

	"ztm/tunnel/buffer"
	"ztm/tunnel/capsule"
)

// responseBody is the sink at the exit.
type responseBody struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// passThrough is net/http's own buffer before the frame writer: a write of at least this many bytes
// to an empty buffer is sent at once, a smaller one waits for a flush.
const passThrough = 4 << 10

func (s *responseBody) send(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	if len(b) >= passThrough {
		return nil
	}
	return s.rc.Flush()
}

func (s *responseBody) write(p []byte) (int, error) { return sendData(p, s.send) }
func (s *responseBody) datagram(p []byte) error     { return sendDatagram(p, s.send) }
func (s *responseBody) move() error                 { return sendEmpty(capsule.Moved, s.send) }

// end leaves the last capsule to the end of the response where that is near: then they share a
// frame.
func (s *responseBody) end(other bool) error {
	if !other {
		return sendEmpty(capsule.FinalData, s.send)
	}
	return sendEmpty(capsule.FinalData, func(b []byte) error { _, err := s.w.Write(b); return err })
}

func (s *responseBody) pull(src io.Reader, c *Conn) (total int64, err error) {
	in := buffer.Buffer{Classes: sessionBuffers}
	defer in.Release()
	for !c.Offloaded() {
		b := in.Next(nil)
		n, rerr := src.Read(b[capsule.HeaderSize:])
		in.Filled(capsule.HeaderSize + n)
		if n > 0 {
			capsule.PutHeader(b, capsule.Data, n)
			if err := s.send(b[:capsule.HeaderSize+n]); err != nil {
				return total, err
			}
			total += int64(n)
			c.account(int64(n), 0)
		}
		if rerr != nil {
			return total, ended(rerr)
		}
	}
	return total, capsule.ErrMoved
}

// sendData sends p, which fits a chunk, as one capsule.
func sendData(p []byte, send func([]byte) error) (int, error) {
	b := buffers.Get(chunk)
	defer buffers.Put(b)
	n := copy((*b)[capsule.HeaderSize:], p)
	capsule.PutHeader(*b, capsule.Data, n)
	if err := send((*b)[:capsule.HeaderSize+n]); err != nil {
		return 0, err
	}
	return n, nil
}

func sendDatagram(p []byte, send func([]byte) error) error {
	return send(capsule.AppendDatagram(make([]byte, 0, len(p)+capsule.HeaderSize), p))
}

// sendEmpty sends a capsule without a value.
func sendEmpty(t capsule.Type, send func([]byte) error) error {
	var b [capsule.HeaderSize]byte
	capsule.PutHeader(b[:], t, 0)
	return send(b[:])
}
