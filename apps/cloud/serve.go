package cloud

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/give"
	"ztm/apps/cloud/index"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/splice"
)

// What peers ask of this endpoint:
//
//	cloud/index?epoch=E&since=N   pages of JSON, one a line: what has changed, of what the peer may read
//	cloud/blocks                  see packages wire and give
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
	who := a.reader(f.Peer())
	epoch, entries, size := f.Query().Get("epoch"), 0, 0
	for ctx.Err() == nil {
		page, err := a.index.Since(who, epoch, since)
		if err != nil {
			a.log().Error("the index cannot be read", "err", err)
			splice.Abort(conn)
			return
		}
		b, err := json.Marshal(page)
		if err != nil {
			splice.Abort(conn)
			return
		}
		entries, size = entries+len(page.Entries), size+len(b)
		if _, err := conn.Write(append(b, '\n')); err != nil || !page.More || entries > index.MaxEntries || size > index.MaxBytes {
			return
		}
		epoch, since = page.Epoch, page.Next
	}
}

// serveBlocks gives a peer what it asks for.
func (a *App) serveBlocks(_ context.Context, f apps.Flow) {
	conn, err := f.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	p := &toPeer{a: a, peer: f.Peer()}
	a.giving.Add(p)
	defer a.giving.Remove(p)
	give.Serve(a.up.Conn(conn), p)
}

// toPeer is what a peer may have of what is here.
type toPeer struct {
	a    *App
	peer apps.Peer

	mu sync.Mutex
	by map[string]bool // groups that it was in when it asked for something; guarded by mu
}

func (p *toPeer) ByContent(h blocks.Hash) []index.Row {
	return p.a.index.ByContent(h, entry.Reader{User: p.peer.User, In: func(group string) bool {
		in := p.a.in(p.peer, group)
		if in {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.by == nil {
				p.by = map[string]bool{}
			}
			p.by[group] = true
		}
		return in
	}})
}

// Lost implements [give.Receiver].
func (p *toPeer) Lost() (peer identity.ID, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for group := range p.by {
		lost = lost || !p.a.in(p.peer, group)
	}
	return p.peer.ID, lost
}

func (p *toPeer) Suspect(row index.Row) { p.a.suspect(row) }

func (p *toPeer) Open(row index.Row) (*os.File, blocks.List, error) {
	t, err := p.a.local()
	if err != nil {
		return nil, nil, err
	}
	list, err := p.a.list(row)
	if err != nil {
		return nil, nil, err
	}
	f, _, err := t.Open(row.User, row.Path)
	return f, list, err
}

func (p *toPeer) Fetched(h blocks.Hash) (int64, blocks.Bitmap, blocks.List, io.ReaderAt) {
	rows := p.ByContent(h)
	return p.a.fetcher.Serve(h, func(name string) bool {
		return slices.ContainsFunc(rows, func(r index.Row) bool { return r.Name() == name })
	})
}

// serveChanged takes the word of a peer that it has news, and asks for them.
func (a *App) serveChanged(_ context.Context, f apps.Flow) {
	p := f.Peer()
	if !a.hints.Take(p.ID, time.Now()) {
		f.Refuse(answer.Errorf(answer.Limit, "endpoint %s has news too often", p.ID))
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	conn.Close()
	if err := a.learner.Pull(a.life, p.ID, "", true); err != nil {
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
