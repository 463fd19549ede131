package contract

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
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

// Send writes an answer to c, in as few pieces as may be: its head goes with as much of its body as has
// come, and the rest as it comes. in is what the body is read through. Without a length the end of the
// body is that of c.
func Send(c io.Writer, resp *http.Response, in *bufio.Reader) error {
	resp.TransferEncoding = nil
	g := &gathering{to: c, in: in}
	if err := resp.Write(g); err != nil {
		return err
	}
	return g.flush()
}

// gathering holds what is written until a body is copied to it: [http.Response.Write] writes each field by
// itself, and each piece is a packet to the peer.
type gathering struct {
	to   io.Writer
	in   *bufio.Reader
	held []byte // of bounded size, as a head is
}

func (g *gathering) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom. body may wait where nothing is in g.in, so it is read once before what
// is held is sent.
func (g *gathering) ReadFrom(body io.Reader) (n int64, err error) {
	begun := 0
	if more := g.in.Buffered(); more > 0 {
		g.held = slices.Grow(g.held, more)
		begun, err = body.Read(g.held[len(g.held) : len(g.held)+more])
		g.held = g.held[:len(g.held)+begun]
	}
	if failed := g.flush(); failed != nil || err != nil {
		if err == io.EOF {
			err = nil
		}
		return int64(begun), cmp.Or(failed, err)
	}
	n, err = io.Copy(g.to, body)
	return int64(begun) + n, err
}

// flush sends what is held.
func (g *gathering) flush() error {
	if len(g.held) == 0 {
		return nil
	}
	_, err := g.to.Write(g.held)
	g.held = nil
	return err
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
func (c *buffered) CloseWrite() error { return splice.CloseWrite(c.Conn) }

// Reset ends the connection as a failure.
func (c *buffered) Reset() error {
	splice.Abort(c.Conn)
	return nil
}
