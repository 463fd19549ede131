// Package give answers a peer's requests for content, one flow of them.
//
//	request -> may this peer have it? -> the file that has it is open already, or is opened
//	-> block -> is it still the right one? -> answer
//
// Each request is decided by itself: access may have been taken away since the last one. A block is
// hashed before its first byte is sent.
package give

import (
	"bufio"
	"crypto/sha256"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/wire"
)

// Place is where content comes from, as one peer may have it.
type Place interface {
	// ByContent returns the files with a content that the peer may read.
	ByContent(h blocks.Hash) []index.Row

	// Open opens a file that is here, and returns the hashes of its blocks.
	Open(row index.Row) (*os.File, blocks.List, error)

	// Fetched returns what has come so far of a content that is being fetched here, for a file that the
	// peer may read.
	Fetched(h blocks.Hash) (size int64, have blocks.Bitmap, list blocks.List, file io.ReaderAt)

	// Suspect is told of a file that is not what the index says.
	Suspect(row index.Row)
}

// quiet is how long a peer may leave a flow without a request, and without taking a part of an answer.
const quiet = 5 * time.Minute

// sending is a flow that is not quiet when the peer takes something: a large block may take long.
type sending struct {
	net.Conn
	idle *time.Timer
}

func (s sending) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if err == nil {
		s.idle.Reset(quiet)
	}
	return n, err
}

// Serve answers requests until the peer has no more.
func Serve(conn net.Conn, p Place) {
	idle := time.AfterFunc(quiet, func() { conn.Close() })
	defer idle.Stop()
	g := &giver{p: p, r: bufio.NewReaderSize(conn, 4<<10), w: bufio.NewWriterSize(sending{conn, idle}, 64<<10)}
	defer g.close()
	for {
		if g.r.Buffered() < wire.RequestSize && g.w.Flush() != nil {
			return
		}
		r, err := wire.ReadRequest(g.r)
		if err != nil {
			g.w.Flush()
			return
		}
		idle.Reset(quiet)
		if err := g.answer(r); err != nil {
			return
		}
	}
}

// giver answers the requests of one flow. It keeps the file that it reads open.
type giver struct {
	p   Place
	r   *bufio.Reader
	w   *bufio.Writer
	buf []byte

	at blocks.Hash // of the content that is open
	opened
}

// opened is a way to read what is here of one content.
type opened struct {
	row  index.Row // that is read; not for what is being fetched
	size int64
	list blocks.List
	have blocks.Bitmap
	file io.ReaderAt
}

// reads reports whether the file that is open is that of a row.
func (g *giver) reads(row index.Row) bool { return row.User == g.row.User && row.Path == g.row.Path }

func (g *giver) close() {
	if f, ok := g.file.(*os.File); ok && g.row.Path != "" {
		f.Close()
	}
	g.opened, g.at = opened{}, blocks.Hash{}
}

// answer answers one request.
func (g *giver) answer(r wire.Request) error {
	rows := g.p.ByContent(r.Content)
	if len(rows) == 0 {
		return g.no(wire.NotFound)
	}
	// Whoever knows a hash can publish it as their own: what counts is the file that is read.
	if g.at != r.Content || g.row.Path == "" || !slices.ContainsFunc(rows, g.reads) {
		g.close()
		g.open(r.Content, rows)
	}
	if g.file == nil && g.size == 0 && g.list == nil {
		return g.no(wire.NotFound)
	}
	switch r.Op {
	case wire.Have:
		return g.yes(g.have)
	case wire.List:
		return g.yes(g.list)
	}
	if int64(r.N) >= int64(blocks.Count(g.size)) || !g.have.Has(int(r.N)) {
		return g.no(wire.NotFound)
	}
	return g.block(int(r.N))
}

// open finds a file here that has the content, or the one that is being fetched.
func (g *giver) open(h blocks.Hash, rows []index.Row) {
	g.at = h
	for _, row := range rows {
		if row.Held == index.All && g.openFile(row) {
			return
		}
	}
	g.size, g.have, g.list, g.file = g.p.Fetched(h)
}

func (g *giver) openFile(row index.Row) bool {
	f, list, err := g.p.Open(row)
	if err != nil {
		return false
	}
	if info, err := f.Stat(); err != nil || info.Size() != row.Size {
		f.Close()
		g.p.Suspect(row)
		return false
	}
	g.opened = opened{row: row, size: row.Size, list: list, have: blocks.FullBitmap(blocks.Count(row.Size)), file: f}
	return true
}

func (g *giver) no(status int) error {
	_, err := g.w.Write(wire.Answer{Status: status}.Append(g.w.AvailableBuffer()))
	return err
}

func (g *giver) yes(b []byte) error {
	_, err := g.w.Write(wire.Answer{Status: wire.OK, Length: int64(len(b))}.Append(g.w.AvailableBuffer()))
	if err == nil {
		_, err = g.w.Write(b)
	}
	return err
}

// memory is how much of a block is read at once, in bytes. What is larger is read twice: it is
// checked before the first byte of it is sent.
const memory = 1 << 20

// block sends a block if it is still the right one.
func (g *giver) block(n int) error {
	at, length := blocks.Bounds(g.size, n)
	if g.buf == nil || int64(len(g.buf)) < min(length, memory) {
		g.buf = make([]byte, min(length, memory))
	}
	sum := sha256.New()
	section := io.NewSectionReader(g.file, at, length)
	if length <= int64(len(g.buf)) {
		b := g.buf[:length]
		if _, err := io.ReadFull(section, b); err != nil {
			return g.changed()
		}
		sum.Write(b)
		if !g.list.Is(n, sum.Sum(nil)) {
			return g.changed()
		}
		return g.yes(b)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{section}, g.buf); err != nil || !g.list.Is(n, sum.Sum(nil)) {
		return g.changed()
	}
	if _, err := g.w.Write(wire.Answer{Status: wire.OK, Length: length}.Append(g.w.AvailableBuffer())); err != nil {
		return err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{g.w}, struct{ io.Reader }{io.NewSectionReader(g.file, at, length)}, g.buf)
	return err
}

// changed answers that the file is another one by now, and looks into that.
func (g *giver) changed() error {
	if g.row.Path != "" {
		g.p.Suspect(g.row)
	}
	g.close()
	return g.no(wire.Changed)
}
