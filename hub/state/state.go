// Package state is what a hub keeps over a restart, and how it comes to be.
//
//	state.go      the hub's database, beside the directory
//	tokens.go     join tokens that the hub has redeemed
//	permit.go     the first start of another hub of a mesh, which has a permit of its own
//	bootstrap.go  the first start, which makes a mesh or joins one by its root permit, and later ones
//
// It holds secrets, and none of it is for logs.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"ztm/store"
	"ztm/store/redeemed"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// The hub's database, beside the directory. Nothing is written on a timer: the trust list when
// there is a newer one, the hub's own certificate every few years.
var (
	selfTable  = store.NewTable[Self]("hub")     // one row, under selfKey
	trustTable = store.NewTable[[]byte]("trust") // one row, under trustKey: the signed document
	tokenTable = redeemed.NewTable("token")      // used by a hub that keeps the CA key
)

const (
	selfKey  = "self"
	trustKey = "list"
)

// schema is empty: version 0 has the tables above, which come into being with their first row.
var schema = []store.Migration{}

// Self is what a hub knows of itself. It holds secrets and is not for logs.
type Self struct {
	CA          string           `json:"ca"`             // PEM of the CA that the mesh began with, or that the permit named
	Key         string           `json:"key"`            // PEM of the hub's private key
	Certificate []byte           `json:"certificate"`    // DER
	Next        *Next            `json:"next,omitempty"` // the certificate to come, after a rotation of the CA
	Last        []byte           `json:"last,omitempty"` // DER of the certificate before this one, for when this one has not begun
	Names       []string         `json:"names"`
	Signer      *KeptCA          `json:"signer,omitempty"`  // only ever with --keep-ca
	Another     bool             `json:"another,omitempty"` // it was made with the root permit of an existing mesh: there may be another hub
	Listen      string           `json:"listen,omitempty"`  // [ip]:port, as --listen said last; "": the default
	Peers       []string         `json:"peers,omitempty"`   // host:port of other hubs, as --peers said last
	Zone        string           `json:"zone,omitempty"`
	Weight      int              `json:"weight,omitempty"`
	Hubs        [][]byte         `json:"hubs,omitempty"`     // signed records of the other hubs that are known
	Restored    unixtime.Seconds `json:"restored,omitempty"` // when this database was restored from a backup
	Seen        unixtime.Seconds `json:"seen,omitempty"`     // a time that is past, written at most daily
}

// Next is a certificate that waits for its time.
type Next struct {
	Certificate []byte           `json:"certificate"` // DER
	From        unixtime.Seconds `json:"from"`
}

// State is the hub's database.
type State struct {
	db *store.DB
}

// Open opens the database in a directory. Its owner calls [State.Close].
func Open(dir string, log *slog.Logger) (*State, error) {
	db, err := store.Open(filepath.Join(dir, "hub.db"), schema, store.Options{Log: log})
	if err != nil {
		return nil, err
	}
	return &State{db: db}, nil
}

// Find opens the database of a hub that has started before; nil: none has, none is made, and nothing
// that can be seen would stop a first start.
func Find(o Options) (*State, error) {
	if _, err := os.Lstat(filepath.Join(o.Data, "hub.db")); errors.Is(err, fs.ErrNotExist) {
		return nil, checkFirst(o)
	}
	return Open(o.Data, o.Log)
}

// Listens returns where the hub listens, as --listen said last; "" is the default, also where s is nil.
func (s *State) Listens() (string, error) {
	if s == nil {
		return "", nil
	}
	me, _, err := s.Self()
	return me.Listen, err
}

// Close closes the database. A nil one is none.
func (s *State) Close() error {
	if s == nil {
		return nil
	}
	return s.db.Close()
}

// DB returns the database, for the directory.
func (s *State) DB() *store.DB { return s.db }

// Self returns the hub's own row and whether there is one.
func (s *State) Self() (me Self, found bool, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		me, found, err = selfTable.Get(tx, selfKey)
		return err
	})
	return me, found, err
}

// Change changes the hub's own row.
func (s *State) Change(f func(*Self)) error {
	return s.db.Update(func(tx *store.Tx) error {
		me, _, err := selfTable.Get(tx, selfKey)
		if err != nil {
			return err
		}
		f(&me)
		return selfTable.Put(tx, selfKey, me)
	})
}

// document returns the stored trust list; nil if there is none.
func (s *State) document() (doc []byte, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		doc, _, err = trustTable.Get(tx, trustKey)
		return err
	})
	return doc, err
}

// Trust returns the trust in force, by the stored document.
func (s *State) Trust(me Self) (*identity.Trust, error) {
	doc, err := s.document()
	if err != nil {
		return nil, err
	}
	trust, err := identity.ParseTrust([]byte(me.CA), doc)
	if err != nil {
		return nil, fmt.Errorf("hub.db: %w", err)
	}
	return trust, nil
}

// SetTrust stores a trust list.
func (s *State) SetTrust(doc []byte) error {
	return s.db.Update(func(tx *store.Tx) error { return trustTable.Put(tx, trustKey, doc) })
}

// Seen keeps a time that is past, as the floor for a clock that is reset. It writes at most once a
// day.
func (s *State) Seen(now time.Time) error {
	return s.db.Update(func(tx *store.Tx) error {
		me, found, err := selfTable.Get(tx, selfKey)
		if err != nil || !found || now.Sub(me.Seen.Time()) < 24*time.Hour {
			return err
		}
		me.Seen = unixtime.Of(now)
		return selfTable.Put(tx, selfKey, me)
	})
}
