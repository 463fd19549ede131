package cloud

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"ztm/apps"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/wire"
	"ztm/tunnel/answer"
)

// What peers ask of this endpoint:
//
//	cloud/index?epoch=E&since=N   pages of JSON, one a line: what has changed, of what the peer may read
//	cloud/blocks                  see package wire
//	cloud/changed                 nothing: the peer says that it has news
//
// Who asks is known from the certificate of the session, and is asked for at each request.

// serveIndex tells a peer what has changed.
func (a *App) serveIndex(ctx context.Context, f apps.Flow) {
	since, err := strconv.ParseUint(f.Query().Get("since"), 10, 64)
	if err != nil {
		f.Refuse(answer.Errorf(answer.BadRequest, "since is no number"))
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	epoch, entries, size := f.Query().Get("epoch"), 0, 0
	for ctx.Err() == nil {
		page, err := a.index.Since(f.Peer().User, epoch, since)
		if err != nil {
			a.log().Error("the index cannot be read", "err", err)
			reset(conn)
			return
		}
		b, err := json.Marshal(page)
		if err != nil {
			reset(conn)
			return
		}
		entries, size = entries+len(page.Entries), size+len(b)
		if _, err := conn.Write(append(b, '\n')); err != nil || !page.More || entries > index.MaxEntries || size > index.MaxBytes {
			return
		}
		epoch, since = page.Epoch, page.Next
	}
}

// reset ends a flow so that the peer sees a failure.
func reset(c net.Conn) {
	if r, ok := c.(interface{ Reset() error }); ok {
		r.Reset()
	}
}

// quiet is how long a peer may leave a flow without a request.
const quiet = 5 * time.Minute

// serveBlocks answers requests for blocks until the peer has no more.
func (a *App) serveBlocks(_ context.Context, f apps.Flow) {
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	idle := time.AfterFunc(quiet, func() { conn.Close() })
	defer idle.Stop()
	g := &giver{a: a, user: f.Peer().User, r: bufio.NewReaderSize(conn, 4<<10), w: bufio.NewWriterSize(conn, 64<<10)}
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
	a    *App
	user string
	r    *bufio.Reader
	w    *bufio.Writer
	buf  []byte

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

func (g *giver) close() {
	if f, ok := g.file.(*os.File); ok && g.row.Path != "" {
		f.Close()
	}
	g.opened, g.at = opened{}, blocks.Hash{}
}

// answer answers one request.
func (g *giver) answer(r wire.Request) error {
	// Each request is decided by itself: access may have been taken away since the last one.
	rows := g.a.index.ByContent(r.Content, g.user)
	if len(rows) == 0 {
		return g.no(wire.NotFound)
	}
	if g.at != r.Content || g.row.Path == "" {
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
	g.size, g.have, g.list, g.file = g.a.fetcher.Serve(h)
}

func (g *giver) openFile(row index.Row) bool {
	t, err := g.a.local()
	if err != nil {
		return false
	}
	list, err := g.a.list(row)
	if err != nil {
		return false
	}
	f, info, err := t.Open(row.User, row.Path)
	if err != nil {
		return false
	}
	if info.Size() != row.Size {
		f.Close()
		g.a.suspect(row)
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
		g.a.suspect(g.row)
	}
	g.close()
	return g.no(wire.Changed)
}

// serveChanged takes the word of a peer that it has news, and asks for them.
func (a *App) serveChanged(_ context.Context, f apps.Flow) {
	p := f.Peer()
	if !a.pokes.Take(p.ID, time.Now()) {
		f.Refuse(answer.Errorf(answer.Limit, "endpoint %s has news too often", p.ID))
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	conn.Close()
	if err := a.pull(a.life, p.ID, "", true); err != nil {
		a.log().Debug("a peer's news did not come", "peer", p.ID, "err", err)
	}
}

// listKey is where the list of a content is kept that has more than one block.
func listKey(h blocks.Hash) string { return "list/" + hex.EncodeToString(h[:]) }

// list returns the hashes of the blocks of a file that is here.
func (a *App) list(row index.Row) (blocks.List, error) {
	if list, ok := (blocks.Content{Size: row.Size, Hash: row.Content}).Whole(); ok {
		return list, nil
	}
	var list []byte
	found, err := a.host.State.Load(listKey(row.Content), &list)
	if err == nil && (!found || len(list) != blocks.Count(row.Size)*blocks.HashSize) {
		err = answer.Errorf(answer.NotFound, "the blocks of %s are not known", row.Name())
	}
	return list, err
}
