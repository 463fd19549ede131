// Package index is what an endpoint knows of published files: its own, and those that peers told it
// of. Each change has a number, so that a peer can ask for what is new since it asked last.
//
//	publish here ──┐                                      ┌─> Since(user, N): only what the user may read
//	entries of peers ──> Put: verify, compare versions ──> rows ──> Get, Each, ByContent
//	                                  │
//	                                  └─ save, in one transaction ─> the agent's database
//
// In memory is what a listing needs, some 200 bytes a file. The documents are in the database.
package index

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// MaxOfUser is how many files of one user an endpoint knows at most, with those that were deleted, see
// [deletedFor].
const MaxOfUser = 100_000

// Held says how much of a content is at an endpoint.
type Held uint8

// How much is there.
const (
	None Held = iota
	Part
	All
)

func (h Held) String() string { return [...]string{"none", "part", "all"}[h] }

// Local is what was in the local directory when this endpoint last wrote or published the file. A
// file there that looks otherwise was changed by somebody.
type Local struct {
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // time of change, in Unix nanoseconds
	Hash    []byte `json:"hash"`
	Exec    bool   `json:"exec,omitempty"` // it could be executed

	// Vector is that of the version which this content is. Newer versions are compared with it.
	Vector entry.Vector `json:"vector,omitempty"`
}

// of returns l as that of a version, if it has the version's content.
func (l *Local) of(e *entry.Entry) *Local {
	if l == nil || !slices.Equal(l.Hash, e.Hash) {
		return l
	}
	one := *l
	one.Vector = e.Vector
	return &one
}

// Row is what is in memory of one file.
type Row struct {
	User, Path string
	Seq        uint64          // number of its last change here
	Size       int64           // as in the entry
	Time       unixtime.Millis // as in the entry
	Content    blocks.Hash
	Readers    *entry.Readers // that count here; shared; nil is nobody
	Deleted    bool
	Held       Held // here

	local  bool           // a file was here
	lost   *entry.Readers // who could read it once; shared; nil is nobody
	number int            // of the content of the row, which no other content of it has
	next   *Row           // with the same content
}

// Name returns the path as people write it.
func (r *Row) Name() string { return "/users/" + r.User + "/" + r.Path }

// IsDir reports whether it is a directory, and no file.
func (r *Row) IsDir() bool { return r.Content == blocks.Directory.Hash }

// May reports whether somebody may read the file.
func (r *Row) May(who entry.Reader) bool {
	return who.User == r.User || r.Readers != nil && r.Readers.May(who)
}

// record is what the database has of a file.
type record struct {
	Seq   uint64       `json:"seq"`
	Held  Held         `json:"held,omitempty"`
	Local *Local       `json:"local,omitempty"`
	Seen  entry.Vector `json:"seen,omitempty"` // of versions that lost against this one
	By    identity.ID  `json:"by"`
	Doc   document     `json:"doc"`

	// What those get to know who could read the file once: that it is gone, in an entry of its own.
	// They are in the order in which they lost it.
	Lost     entry.Readers `json:"lost,omitzero"`
	Farewell document      `json:"farewell,omitzero"`
}

// lostTo reports whether somebody could read the file once and cannot any longer.
func (r *Row) lostTo(who entry.Reader) bool { return !r.May(who) && r.lost != nil && r.lost.May(who) }

// document is JSON as it is.
type document []byte

func (d document) MarshalJSON() ([]byte, error)  { return d, nil }
func (d *document) UnmarshalJSON(b []byte) error { *d = slices.Clone(b); return nil }
func key(user, path string) string               { return prefix + user + "/" + path }

const (
	prefix     = "entry/"
	certPrefix = "cert/"
	metaKey    = "index"
)

// meta is what the database has of the index itself.
type meta struct {
	Epoch string `json:"epoch"` // another one each time an index is begun anew
	First uint64 `json:"first"` // where its numbers begin
}

// Index is the index of one mesh. Make it with [Load]. Its methods may be called from any goroutine.
type Index struct {
	state  apps.State
	notary apps.Notary
	epoch  string
	fresh  bool // there was none in the database
	most   int  // rows of a user
	older  int  // files that Load left out; static

	changing sync.Mutex // held through a change, the saving included

	mu       sync.Mutex
	seq      uint64                    // guarded by mu
	rows     map[string]*Row           // by key without prefix; guarded by mu
	content  map[blocks.Hash]*Row      // guarded by mu
	order    []turn                    // by seq; guarded by mu
	contents int                       // that rows had; guarded by mu
	users    map[string]int            // rows of each; guarded by mu
	readers  map[string]*entry.Readers // guarded by mu
	groups   groups                    // that files are shared with; guarded by mu
	kept     map[string]int64          // bytes of each user that are here; guarded by mu
	forms    map[string]string         // keys without prefix, and directories, that are not ASCII; see formLocked; guarded by mu
	claims   map[string]int64          // bytes of files that are on their way, by key without prefix; guarded by mu
	certs    map[identity.ID][]byte    // guarded by mu
	changed  chan struct{}             // closed at the next change; guarded by mu
}

// turn is a change. The row has changed again since, if its Seq is another.
type turn struct {
	seq uint64
	row *Row
}

// Load reads the index from the database.
func Load(s apps.State, n apps.Notary) (*Index, error) {
	x := &Index{state: s, notary: n, most: MaxOfUser, rows: map[string]*Row{}, content: map[blocks.Hash]*Row{}, users: map[string]int{},
		readers: map[string]*entry.Readers{}, groups: groups{}, kept: map[string]int64{}, claims: map[string]int64{}, forms: map[string]string{}, certs: map[identity.ID][]byte{}, changed: make(chan struct{})}
	var m meta
	found, err := s.Load(metaKey, &m)
	if err != nil {
		return nil, err
	}
	if !found {
		var b [4]byte
		rand.Read(b[:])
		// An index that was lost begins at another number, so that peers see that it is another.
		m = meta{Epoch: rand.Text(), First: uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | 1}
		if err := s.Save(metaKey, m); err != nil {
			return nil, err
		}
	}
	x.epoch, x.seq, x.fresh = m.Epoch, m.First, !found
	return x, errors.Join(x.loadCertificates(), x.loadRows())
}

func (x *Index) loadCertificates() error {
	keys, err := x.state.Keys(certPrefix)
	for _, k := range keys {
		var der []byte
		if _, err := x.state.Load(k, &der); err != nil {
			return err
		}
		x.certs[identity.ID(strings.TrimPrefix(k, certPrefix))] = der
	}
	return err
}

func (x *Index) loadRows() error {
	keys, err := x.state.Keys(prefix)
	if err != nil {
		return err
	}
	for _, k := range keys {
		var r record
		if _, err := x.state.Load(k, &r); err != nil {
			return err
		}
		e, err := entry.Read(r.Doc)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		if e.Older() {
			x.older, x.seq = x.older+1, max(x.seq, r.Seq)
			continue
		}
		x.setLocked(e, &r)
	}
	sort.Slice(x.order, func(i, j int) bool { return x.order[i].seq < x.order[j].seq })
	return nil
}

// setLocked makes the row of an entry say what the record says. Load needs no lock.
func (x *Index) setLocked(e *entry.Entry, r *record) {
	id := e.User + "/" + e.Path
	row := x.rows[id]
	if row == nil {
		row = &Row{User: e.User, Path: id[len(e.User)+1:]}
		x.rows[id] = row
		x.formLocked(id)
		x.users[e.User]++
	} else {
		x.unlinkLocked(row)
		x.groups.count(row, -1)
		x.kept[e.User] -= row.bytes()
	}
	if h := e.Content().Hash; h != row.Content || row.number == 0 {
		x.contents++
		row.number = x.contents
	}
	row.Seq, row.Size, row.Time, row.Deleted, row.Held = r.Seq, e.Size, e.Time, e.Deleted, r.Held
	row.local = r.Local != nil
	row.Content, row.Readers, row.lost = e.Content().Hash, x.sharedLocked(x.groups.within(e.User, e.Readers)), x.sharedLocked(r.Lost.Sorted())
	x.groups.count(row, 1)
	x.kept[e.User] += row.bytes()
	if row.Held == All {
		delete(x.claims, id) // it counts as kept from now on
	}
	if !e.Deleted && !e.IsDir() { // nobody asks for the content of a directory
		row.next = x.content[row.Content]
		x.content[row.Content] = row
	}
	x.order = append(x.order, turn{r.Seq, row})
	x.seq = max(x.seq, r.Seq)
	if len(x.order) > 2*len(x.rows)+64 {
		x.order = slices.DeleteFunc(x.order, func(t turn) bool { return t.seq != t.row.Seq })
	}
}

// unlinkLocked takes a row from those with its content.
func (x *Index) unlinkLocked(row *Row) {
	for at := x.content[row.Content]; at != nil; at = at.next {
		if at.next == row {
			at.next = row.next
		}
	}
	if x.content[row.Content] == row {
		if x.content[row.Content] = row.next; row.next == nil {
			delete(x.content, row.Content)
		}
	}
	row.next = nil
}

// sharedLocked returns readers that rows with the same ones share.
func (x *Index) sharedLocked(r entry.Readers) *entry.Readers {
	if r.IsNobody() {
		return nil
	}
	k := fmt.Sprint(r.All, r.Users, r.Groups)
	if x.readers[k] == nil {
		x.readers[k] = &r
	}
	return x.readers[k]
}

// Fresh reports whether the index began anew when it was loaded. Others may know more of this
// endpoint's own files than it does itself.
func (x *Index) Fresh() bool { return x.fresh }

// Older returns how many files the database has entries of in which an older ztm says what they
// contain, which nobody can fetch by. They count as not published until they are published again:
// Get still knows their versions and readers.
func (x *Index) Older() int { return x.older }

// Position returns the epoch of the index and the number of its last change.
func (x *Index) Position() (epoch string, seq uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.epoch, x.seq
}

// Changed returns a channel that is closed at the next change.
func (x *Index) Changed() <-chan struct{} {
	x.mu.Lock()
	changed := x.changed
	x.mu.Unlock()
	return changed
}

// Known is all that is known of a file.
type Known struct {
	entry.Entry
	Held  Held
	Local *Local       // nil where nothing was ever written or published here
	Seen  entry.Vector // what the next version has to know beside Vector
}

// Get returns what is known of a file, or nil.
func (x *Index) Get(user, path string) (*Known, error) {
	r, e, err := x.load(user, path)
	if r == nil || err != nil {
		return nil, err
	}
	return &Known{Entry: *e, Held: r.Held, Local: r.Local, Seen: r.Seen}, nil
}

func (x *Index) load(user, path string) (*record, *entry.Entry, error) {
	var r record
	found, err := x.state.Load(key(user, path), &r)
	if !found || err != nil {
		return nil, nil, err
	}
	e, err := entry.Read(r.Doc)
	return &r, e, err
}

// Each calls a function for each row that is below a path, sorted by name, until it returns false.
// The rows are copies.
func (x *Index) Each(below func(*Row) bool, each func(Row) bool) {
	x.mu.Lock()
	var list []Row
	for _, row := range x.rows {
		if below(row) {
			list = append(list, *row)
		}
	}
	x.mu.Unlock()
	sort.Slice(list, func(i, j int) bool {
		return list[i].User < list[j].User || list[i].User == list[j].User && list[i].Path < list[j].Path
	})
	for _, row := range list {
		if !each(row) {
			return
		}
	}
}

// ByContent returns the rows of files with a content that somebody may read.
func (x *Index) ByContent(h blocks.Hash, who entry.Reader) (rows []Row) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for row := x.content[h]; row != nil; row = row.next {
		if row.May(who) {
			rows = append(rows, *row)
		}
	}
	return rows
}

// batch collects changes until they are saved.
type batch struct {
	x      *Index
	values map[string]any // for the database
	rows   map[string]change
	gone   map[string]*Row // by key: deletions that are forgotten
	more   map[string]int  // files of each user that there will be more than there are
	certs  map[identity.ID][]byte
	seq    uint64
}

type change struct {
	e *entry.Entry
	r *record
}

func (x *Index) begin() *batch {
	_, seq := x.Position()
	return &batch{x: x, values: map[string]any{}, rows: map[string]change{}, gone: map[string]*Row{}, more: map[string]int{}, certs: map[identity.ID][]byte{}, seq: seq}
}

func (b *batch) set(e *entry.Entry, r *record) {
	b.seq++
	r.Seq = b.seq
	k := key(e.User, e.Path)
	if _, again := b.rows[k]; !again && (b.gone[k] != nil || !b.x.has(k)) {
		b.more[e.User]++
	}
	b.values[k], b.rows[k] = r, change{e, r}
	delete(b.gone, k)
}

// has reports whether there is a row of a key.
func (x *Index) has(key string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rows[key[len(prefix):]] != nil
}

// get returns a file as the batch has it, or else the database.
func (b *batch) get(user, path string) (*record, *entry.Entry, error) {
	if c, ok := b.rows[key(user, path)]; ok {
		r := *c.r
		return &r, c.e, nil
	}
	return b.x.load(user, path)
}

// save saves all of it, and then it is in force.
func (b *batch) save() error {
	if len(b.values) == 0 {
		return nil
	}
	if err := b.x.state.SaveAll(b.values); err != nil {
		return err
	}
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	changes := slices.Collect(maps.Values(b.rows))
	sort.Slice(changes, func(i, j int) bool { return changes[i].r.Seq < changes[j].r.Seq })
	for _, c := range changes {
		x.setLocked(c.e, c.r)
	}
	x.dropLocked(b.gone)
	maps.Copy(x.certs, b.certs)
	close(x.changed)
	x.changed = make(chan struct{})
	return nil
}

// certificate keeps the newest certificate that came with an endpoint's entries.
func (b *batch) certificate(by identity.ID, der []byte) {
	b.x.mu.Lock()
	same := slices.Equal(b.x.certs[by], der)
	b.x.mu.Unlock()
	if !same {
		b.certs[by] = der
		b.values[certPrefix+string(by)] = der
	}
}
