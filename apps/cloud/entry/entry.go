// Package entry is what an endpoint says of a file that it has published: which user's, under which
// path, with which content, in which version, and who may read it.
//
//	Entry -> Sign -> Signed {document, certificate} -> any number of peers -> Open -> Entry, or refused
//
// The document is signed by the endpoint that published, so that who delivers it needs no trust.
// Clocks name things and decide nothing: versions are compared by [Vector].
package entry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"ztm/apps"
	"ztm/apps/cloud/blocks"
	"ztm/apps/rooted"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Entry is one version of a published file. Its fields are in the order in which they are signed.
type Entry struct {
	User    string          `json:"user"`              // whose tree it is in: that of the endpoint that signs
	Path    string          `json:"path"`              // below the user's tree, with slashes
	By      identity.ID     `json:"by"`                // the endpoint that signs
	Vector  Vector          `json:"vector"`            // of this version
	Time    unixtime.Millis `json:"time"`              // of the file's last change, by the clock there
	Size    int64           `json:"size"`              // in bytes
	Exec    bool            `json:"exec,omitempty"`    // it may be executed
	Block   int64           `json:"block,omitempty"`   // bytes of a block, see [blocks.Size]
	Hash    []byte          `json:"content,omitempty"` // see [blocks.Content]
	Readers Readers         `json:"readers,omitzero"`  // beside the user
	Deleted bool            `json:"deleted,omitempty"` // there is no file any longer
}

// Name returns the path in the form that people use: "/users/USER/PATH".
func (e *Entry) Name() string { return "/users/" + e.User + "/" + e.Path }

// May reports whether somebody may read the file.
func (e *Entry) May(who Reader) bool { return who.User == e.User || e.Readers.May(who) }

// Older reports whether an older ztm signed the entry, which knew contents by another hash.
func (e *Entry) Older() bool { return !e.Deleted && len(e.Hash) == 0 }

// Content returns which content the file has.
func (e *Entry) Content() blocks.Content {
	c := blocks.Content{Size: e.Size}
	copy(c.Hash[:], e.Hash)
	return c
}

// SetContent makes c the content of the file.
func (e *Entry) SetContent(c blocks.Content) {
	e.Size, e.Block, e.Hash = c.Size, blocks.Size(c.Size), bytes.Clone(c.Hash[:])
}

// kind is the kind of statement that an entry is: its context is "ztm cloud entry v1".
const kind = "entry"

// Signed is an entry as it is kept and passed on.
type Signed struct {
	Doc         []byte
	Certificate []byte // of the endpoint that signed
}

// Sign signs an entry of this endpoint.
func Sign(n apps.Notary, e *Entry) (Signed, error) {
	if err := e.check(); err != nil {
		return Signed{}, err
	}
	doc, certificate, err := n.Sign(kind, e)
	return Signed{doc, certificate}, err
}

// Open reads an entry and verifies that an endpoint of the user whose tree it is in has signed it.
func Open(n apps.Notary, s Signed) (*Entry, error) {
	var e Entry
	by, err := n.Verify(kind, s.Doc, s.Certificate, &e)
	if err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	if by.User != e.User || by.ID != e.By {
		return nil, fmt.Errorf("the entry is of user %s and endpoint %s, its signature of another", e.User, e.By)
	}
	return &e, nil
}

// check checks all that can be said of an entry by itself.
func (e *Entry) check() error {
	if err := identity.CheckName(e.User); err != nil {
		return err
	}
	p, err := rooted.ParsePath(e.Path)
	if err != nil {
		return err
	}
	if p.IsRoot() {
		return errors.New("the entry has no path")
	}
	if _, err := identity.ParseID(string(e.By)); err != nil {
		return err
	}
	if err := e.Vector.check(); err != nil {
		return err
	}
	if _, found := e.Vector.find(e.By); !found {
		return errors.New("the entry is no version of the endpoint that signed it")
	}
	if e.Time < 0 || e.Time > unixtime.MaxMillis {
		return fmt.Errorf("the time %d makes no sense", e.Time)
	}
	if err := e.Readers.Check(); err != nil {
		return err
	}
	return e.checkContent()
}

func (e *Entry) checkContent() error {
	if e.Deleted {
		if e.Size != 0 || e.Block != 0 || e.Exec || len(e.Hash) > 0 {
			return errors.New("the entry of a deleted file has content")
		}
		return nil
	}
	if e.Size < 0 || e.Size > blocks.MaxSize {
		return fmt.Errorf("a size of %d bytes, the limit is %d", e.Size, int64(blocks.MaxSize))
	}
	if e.Block != blocks.Size(e.Size) {
		return fmt.Errorf("blocks of %d bytes do not fit a size of %d", e.Block, e.Size)
	}
	if len(e.Hash) != blocks.HashSize {
		return errors.New("the hash has another length")
	}
	switch c := e.Content(); {
	case c == blocks.Directory && e.Exec:
		return errors.New("a directory is no program")
	case c == blocks.Directory:
		return nil
	case c.Hash == blocks.Directory.Hash:
		return errors.New("a directory has a size")
	default:
		return c.Check()
	}
}

// IsDir reports whether the entry is a directory. It says that there is one, and nothing of what is in it.
func (e *Entry) IsDir() bool { return e.Content() == blocks.Directory }

// Newer reports whether version a of a file takes the place of version b. Where neither knows the
// other, all endpoints decide alike: a file wins over its deletion, then the version with more
// changes behind it, then the larger hash, then the larger endpoint.
func Newer(a, b *Entry) bool {
	switch Compare(a.Vector, b.Vector) {
	case After:
		return true
	case Concurrent:
		return prefer(a, b) > 0
	}
	return false
}

func prefer(a, b *Entry) int {
	if a.Deleted != b.Deleted {
		if b.Deleted {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.Vector.total(), b.Vector.total()), bytes.Compare(a.Hash, b.Hash), cmp.Compare(a.By, b.By))
}

func (v Vector) total() (n uint64) {
	for _, c := range v {
		n += c.N
	}
	return n
}

// Author is the endpoint that publishes.
type Author struct {
	ID   identity.ID
	User string
}

// Read reads an entry that was verified when it was taken.
func Read(doc []byte) (*Entry, error) {
	var d struct{ Payload Entry }
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, err
	}
	return &d.Payload, nil
}

// Below reports whether a path is a directory, or below it. "" is above all.
func Below(path, dir string) bool {
	return dir == "" || path == dir || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}
