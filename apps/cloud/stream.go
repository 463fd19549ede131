package cloud

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"ztm/apps"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/tree"
	"ztm/tunnel/answer"
)

// The command line streams files in and out, so that they are read and written by the account that
// types the command:
//
//	cloud/put   head of the file as JSON, a line end, its bytes; the next one; at last a half-close
//	            <- a line with a Result for each
//	cloud/get   ?path=P -> the bytes; a failure is a reset
//
// Only endpoints of the same user get so far.

// Upload is the head of a file that is streamed in.
type Upload struct {
	Path  string   `json:"path"` // in the user's own tree
	Size  int64    `json:"size"`
	Time  int64    `json:"time"` // of its last change, in Unix milliseconds
	Exec  bool     `json:"exec,omitempty"`
	Share []string `json:"share,omitempty"` // users; "*" is all
}

// maxHead is the longest head, in bytes.
const maxHead = 64 << 10

// servePut takes files and publishes them.
func (a *App) servePut(_ context.Context, f apps.Flow) {
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
	put := &putting{a: a, t: t, conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	for err == nil {
		err = put.file()
	}
	if flushed := put.flush(); flushed != nil || !errors.Is(err, io.EOF) {
		reset(conn)
	}
	a.again()
}

// putting is one stream of files. What has been written is published some at a time.
type putting struct {
	a     *App
	t     *tree.Tree
	conn  net.Conn
	r     *bufio.Reader
	ready []index.Published
	told  []Result
}

// file takes one file. io.EOF says that there are no more.
func (p *putting) file() error {
	if p.r.Buffered() == 0 || len(p.told) >= batchFiles {
		if err := p.flush(); err != nil {
			return err
		}
	}
	line, err := readLine(p.r, maxHead)
	if err != nil {
		return err
	}
	var u Upload
	if err := json.Unmarshal(line, &u); err != nil || u.Size < 0 || u.Size > blocks.MaxSize {
		return fmt.Errorf("the head of a file makes no sense: %w", err)
	}
	path, err := p.a.own(u.Path)
	if err == nil && path == "" {
		err = answer.Errorf(answer.BadRequest, "the file has no name")
	}
	left := &io.LimitedReader{R: p.r, N: u.Size}
	if err == nil {
		u.Path = path
		err = p.take(u, left)
	}
	r := Result{Path: NameOf(p.a.author().User, path)}
	if err != nil {
		r.Error = explain(err)
	}
	p.told = append(p.told, r)
	_, err = io.Copy(io.Discard, left) // of a file that was not taken
	if err == nil && left.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// take writes a file and makes a version of it.
func (p *putting) take(u Upload, from io.Reader) error {
	c, list, err := p.a.write(p.t, u.Path, u.Size, time.UnixMilli(u.Time), u.Exec, from)
	if err != nil {
		return err
	}
	user := p.a.author().User
	info, err := p.t.Stat(user, u.Path)
	if err != nil {
		return err
	}
	known, err := p.a.index.Get(user, u.Path)
	if err != nil {
		return err
	}
	v, err := p.a.version(known, u.Path, c, list, info, p.a.readers(known, u))
	if v != nil {
		v.Entry.Exec = u.Exec
		p.ready = append(p.ready, *v)
	}
	return err
}

// readers returns whom a file is shared with that was uploaded with some readers; nil leaves it.
func (a *App) readers(known *index.Known, u Upload) *entry.Readers {
	if len(u.Share) == 0 {
		return nil
	}
	c := ShareChange{}
	yes := true
	for _, name := range u.Share {
		if name == "*" {
			c.All = &yes
		} else {
			c.Add = append(c.Add, name)
		}
	}
	var before entry.Readers
	if known != nil && !known.Deleted {
		before = known.Readers
	}
	after := c.Apply(before)
	return &after
}

// flush publishes what has been written, and says so.
func (p *putting) flush() error {
	if len(p.told) == 0 {
		return nil
	}
	err := p.a.index.Publish(p.a.author(), p.ready)
	var out []byte
	for _, r := range p.told {
		if err != nil && r.Error == "" {
			r.Error = explain(err)
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out = append(append(out, b...), '\n')
	}
	p.ready, p.told = nil, nil
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
		reset(conn)
	}
}
