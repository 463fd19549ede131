package cloud

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"ztm/apps"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
	"ztm/tunnel/unixtime"
)

// The command line streams files in and out, so that they are read and written by the account that
// types the command:
//
//	cloud/put   head of the file as JSON, a line end, its bytes, "+" or "-"; the next one; at last a half-close
//	            <- a line with a Result for each that is not "-": it has changed while it was read
//	cloud/get   ?path=P -> the bytes; a failure is a reset
//
// Only endpoints of the same user get so far.

// Upload is the head of a file that is streamed in.
type Upload struct {
	Path  string          `json:"path"` // in the user's own tree
	Size  int64           `json:"size"`
	Time  unixtime.Millis `json:"time"` // of its last change
	Exec  bool            `json:"exec,omitempty"`
	Share []string        `json:"share,omitempty"` // users; "*" is all
}

// maxHead is the longest head, in bytes.
const maxHead = 64 << 10

// servePut takes files and publishes them.
func (a *App) servePut(ctx context.Context, f apps.Flow) {
	t, err := a.local()
	if err != nil {
		f.Refuse(err)
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	a.remember(ctx)
	put := &putting{a: a, t: t, conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	for err == nil {
		err = put.file()
	}
	defer put.drop()
	if flushed := put.flush(); flushed != nil || !errors.Is(err, io.EOF) {
		splice.Abort(conn)
	}
	a.news.Again()
}

// drop removes what was written and got no name.
func (p *putting) drop() {
	for _, w := range p.ready {
		w.p.Discard()
	}
}

// putting is one stream of files. What has been written gets its name and is published some at a
// time.
type putting struct {
	a     *App
	t     *tree.Tree
	conn  net.Conn
	r     *bufio.Reader
	ready []written
	told  []Result
}

// written is a file that is complete and has no name yet.
type written struct {
	Upload
	p    *tree.Pending
	c    blocks.Content
	list blocks.List
	told int // its result
}

// written files are open: so many at a time.
const openFiles = 128

// file takes one file. io.EOF says that there are no more.
func (p *putting) file() error {
	if p.r.Buffered() == 0 && len(p.ready) > 0 || len(p.ready) >= openFiles || len(p.told) >= batchFiles {
		if err := p.flush(); err != nil {
			return err
		}
	}
	line, err := index.ReadLine(p.r, maxHead)
	if err != nil {
		return err
	}
	var u Upload
	if err := json.Unmarshal(line, &u); err != nil {
		return fmt.Errorf("the head of a file: %w", err)
	}
	if u.Size < 0 || u.Size > blocks.MaxSize {
		return fmt.Errorf("the head of a file says that it has %d bytes", u.Size)
	}
	path, err := p.a.own(u.Path)
	if err == nil && path == "" {
		err = answer.Errorf(answer.BadRequest, "the file has no name")
	}
	left := &io.LimitedReader{R: p.r, N: u.Size}
	w := written{Upload: u, told: len(p.told)}
	r := Result{Path: NameOf(p.a.author().User, u.Path)}
	if err == nil {
		r.Path, w.Path = NameOf(p.a.author().User, path), path
		w.p, w.c, w.list, err = p.a.write(p.t, path, u.Size, left)
	}
	if err != nil {
		r.Error = state.Explain(err)
	}
	taken, err := p.taken(left)
	switch {
	case taken && r.Error == "":
		p.ready = append(p.ready, w)
	case w.p != nil:
		w.p.Discard()
	}
	if taken {
		p.told = append(p.told, r)
	}
	return err
}

// taken reads what is left of a file, and whether all of it was one state of it.
func (p *putting) taken(left *io.LimitedReader) (bool, error) {
	if _, err := io.Copy(io.Discard, left); err != nil {
		return false, err
	}
	last, err := p.r.ReadByte()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return last == Whole, err
}

// What follows the bytes of a file.
const (
	Whole = '+' // they are one state of it
	Torn  = '-' // it changed while it was read: they count for nothing
)

// version makes the version of a file that has its name; nil where there is nothing new to say.
func (p *putting) version(w written) (*version, error) {
	user := p.a.author().User
	info, err := p.t.Stat(user, w.Path)
	if err != nil {
		return nil, err
	}
	known, err := p.a.index.Get(user, w.Path)
	if err != nil {
		return nil, err
	}
	v, err := p.a.version(known, w.Path, w.c, w.list, info, w.Share)
	if v != nil {
		v.Entry.Exec = w.Exec
	}
	return v, err
}

// name gives all that was written its name, and returns what is to be published.
func (p *putting) name() (list []version, err error) {
	sizes := make([]int64, len(p.ready))
	for i, w := range p.ready {
		sizes[i] = w.Size
	}
	err = p.t.Batch(sizes, func(i int, durable bool) {
		w := p.ready[i]
		err := w.p.Commit(tree.Perm(w.Exec), w.Time.Time(), durable)
		w.p.Discard()
		var v *version
		if err == nil {
			v, err = p.version(w)
		}
		if err != nil {
			p.told[w.told].Error = state.Explain(err)
		} else if v != nil {
			list = append(list, *v)
		}
	})
	p.ready = nil
	return list, err
}

// flush publishes what has been written, and says so.
func (p *putting) flush() error {
	if len(p.told) == 0 {
		return nil
	}
	list, err := p.name()
	if err == nil {
		err = p.a.save(list)
	}
	var out []byte
	for _, r := range p.told {
		if err != nil && r.Error == "" {
			r.Error = state.Explain(err)
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out = append(append(out, b...), '\n')
	}
	p.told = nil
	_, err = p.conn.Write(out)
	return err
}

// serveGet gives a file.
func (a *App) serveGet(_ context.Context, f apps.Flow) {
	file, err := a.open(f.Query().Get("path"))
	if err != nil {
		f.Refuse(err)
		return
	}
	defer file.Close()
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := io.Copy(conn, file); err != nil {
		splice.Abort(conn)
	}
}
