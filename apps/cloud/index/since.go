package index

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	"ztm/apps/cloud/entry"
	"ztm/tunnel/identity"
)

// Limits of what one request for changes gets. A peer asks again for the rest.
const (
	pageEntries = 256
	pageBytes   = 1 << 20       // of a page, at most; it ends with the entry that goes beyond a quarter of this
	MaxEntries  = 100_000       // of a request
	MaxBytes    = 32 << 20      // of a request
	MaxPage     = 2 * pageBytes // bytes of a page as JSON
)

// Page is a part of the changes since a number, of what one user may read.
type Page struct {
	Epoch        string   `json:"epoch"`
	Next         uint64   `json:"next"` // ask for what is new since this
	More         bool     `json:"more,omitempty"`
	Certificates [][]byte `json:"certificates,omitempty"`
	Entries      []Told   `json:"entries,omitempty"`
}

// Told is an entry on its way to a peer.
type Told struct {
	Doc         json.RawMessage `json:"doc"`
	Certificate int             `json:"cert,omitempty"` // which of the page's
	Held        Held            `json:"held,omitempty"` // at the endpoint that tells
}

// Since returns the first page of what has changed since a number of an epoch, as far as somebody may
// read it. A number of another epoch is none: all is new. Each view of the index has its own epoch.
func (x *Index) Since(who entry.Reader, epoch string, since uint64) (*Page, error) {
	p := &Page{Epoch: x.epoch}
	if view := x.View(who); view != "" {
		p.Epoch += "." + view
	}
	if epoch != p.Epoch {
		since = 0
	}
	rows, next, more := x.since(who, since)
	p.Next, p.More = next, more
	at := map[identity.ID]int{}
	size := 0
	for i, row := range rows {
		r, _, err := x.load(row.User, row.Path)
		if err != nil {
			return nil, err
		}
		if r == nil || r.Seq != row.Seq {
			continue // changed meanwhile: it comes with a later number
		}
		n, known := at[r.By]
		if !known {
			n = len(p.Certificates)
			at[r.By] = n
			p.Certificates = append(p.Certificates, x.certificate(r.By))
			size += len(p.Certificates[n]) * 4 / 3
		}
		told := Told{Doc: json.RawMessage(r.Doc), Certificate: n, Held: r.Held}
		if row.lostTo(who) {
			told.Doc, told.Held = json.RawMessage(r.Farewell), None
		}
		p.Entries = append(p.Entries, told)
		if size += len(r.Doc) + 32; size > pageBytes/4 && i < len(rows)-1 {
			p.Next, p.More = row.Seq, true
			break
		}
	}
	return p, nil
}

func (x *Index) certificate(by identity.ID) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.certs[by]
}

// since returns at most a page of rows.
func (x *Index) since(who entry.Reader, since uint64) (rows []Row, next uint64, more bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := sort.Search(len(x.order), func(i int) bool { return x.order[i].seq > since })
	for ; i < len(x.order); i++ {
		t := x.order[i]
		if t.seq != t.row.Seq || !t.row.May(who) && !t.row.lostTo(who) {
			continue
		}
		if len(rows) == pageEntries {
			return rows, rows[len(rows)-1].Seq, true
		}
		rows = append(rows, *t.row)
	}
	return rows, x.seq, false
}

// News reports whether somebody may read something that has changed since a number.
func (x *Index) News(who entry.Reader, since uint64) bool {
	rows, _, _ := x.since(who, since)
	return len(rows) > 0
}

// ParsePage reads a page that a peer sent, of at most [MaxPage] bytes.
func ParsePage(b []byte) (*Page, error) {
	if len(b) > MaxPage {
		return nil, fmt.Errorf("a page of %d bytes", len(b))
	}
	var p Page
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, err
	}
	if len(p.Entries) > pageEntries || len(p.Certificates) > len(p.Entries) || len(p.Epoch) > 64 {
		return nil, errors.New("the page has too much of something")
	}
	for _, t := range p.Entries {
		if t.Certificate < 0 || t.Certificate >= len(p.Certificates) || t.Held > All {
			return nil, errors.New("an entry of the page makes no sense")
		}
	}
	return &p, nil
}

// Signed returns the entries as [Index.Put] takes them.
func (p *Page) Signed() (list []entry.Signed) {
	for _, t := range p.Entries {
		list = append(list, entry.Signed{Doc: t.Doc, Certificate: p.Certificates[t.Certificate]})
	}
	return list
}

// Holders says which endpoints have told that they hold which files. The zero value knows of none.
// It belongs to an [Index], whose lock it takes.
type Holders struct{ of map[identity.ID]map[int]Held }

// Told notes what an endpoint told of what it holds. What it holds of another version counts as
// nothing.
func (x *Index) Told(h *Holders, by identity.ID, e *entry.Entry, held Held) {
	x.mu.Lock()
	defer x.mu.Unlock()
	row := x.rows[e.User+"/"+e.Path]
	if row == nil {
		return
	}
	if e.Deleted || row.Deleted || row.Content != e.Content().Hash {
		held = None
	}
	if h.of == nil {
		h.of = map[identity.ID]map[int]Held{}
	}
	if h.of[by] == nil {
		h.of[by] = map[int]Held{}
	}
	if held == None {
		delete(h.of[by], row.number)
		return
	}
	h.of[by][row.number] = held
}

// Forget forgets what an endpoint told.
func (x *Index) Forget(h *Holders, by identity.ID) {
	x.mu.Lock()
	delete(h.of, by)
	x.mu.Unlock()
}

// Holders returns the endpoints that told that they hold a file, in the order of their IDs.
func (x *Index) Holders(h *Holders, user, path string) (ids []identity.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	row := x.rows[user+"/"+path]
	if row == nil {
		return nil
	}
	for id, held := range h.of {
		if held[row.number] != None {
			ids = append(ids, id)
		}
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// ReadLine reads a line of at most so many bytes, without its end.
func ReadLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > most {
			return nil, errors.New("a line that is too long")
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}
