package contract

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"ztm/tunnel/splice"
)

// taken is how long the other side may take for a piece of an answer.
const taken = 30 * time.Second

// CopyAnswer passes each piece of an answer on as soon as it comes, for as long as it may take. What
// was begun cannot be refused: a failure cuts it.
func CopyAnswer(w http.ResponseWriter, from io.Reader) {
	buf, out := make([]byte, 32<<10), http.NewResponseController(w)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			out.SetWriteDeadline(time.Now().Add(taken)) // of this piece: the whole may have no end
			if _, gone := w.Write(buf[:n]); gone != nil {
				return
			}
			out.Flush()
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// CloseWrite ends what is sent, where a connection can.
func CloseWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Buffered is a connection whose first bytes have been read into a buffer already.
func Buffered(c net.Conn, in *bufio.Reader) net.Conn {
	if in.Buffered() == 0 {
		return c
	}
	return &buffered{Conn: c, in: in}
}

type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (c *buffered) Read(p []byte) (int, error) { return c.in.Read(p) }

// CloseWrite ends what is sent.
func (c *buffered) CloseWrite() error { return CloseWrite(c.Conn) }

// Reset ends the connection as a failure.
func (c *buffered) Reset() error {
	splice.Abort(c.Conn)
	return nil
}
