package hub

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"ztm/store"
	"ztm/tunnel/identity"
)

// The hub's database, beside the directory. Nothing is written on a timer: the trust list when
// there is a newer one, the hub's own certificate every few years.
var (
	selfTable  = store.NewTable[self]("hub")       // one row, under selfKey
	trustTable = store.NewTable[[]byte]("trust")   // one row, under trustKey: the signed document
	tokenTable = store.NewTable[redeemed]("token") // by nonce; used by a hub that keeps the CA key
)

const (
	selfKey  = "self"
	trustKey = "list"
)

// schema is empty: version 0 has the tables above, which come into being with their first row.
var schema = []store.Migration{}

// self is what a hub knows of itself. It holds secrets and is not for logs.
type self struct {
	CA          string   `json:"ca"`             // PEM of the CA that the mesh began with, or that the permit named
	Key         string   `json:"key"`            // PEM of the hub's private key
	Certificate []byte   `json:"certificate"`    // DER
	Next        *next    `json:"next,omitempty"` // the certificate to come, after a rotation of the CA
	Last        []byte   `json:"last,omitempty"` // DER of the certificate before this one, for when this one has not begun
	Names       []string `json:"names"`
	Signer      *keptCA  `json:"signer,omitempty"`  // only ever with --keep-ca
	Another     bool     `json:"another,omitempty"` // it was made with the root permit of an existing mesh: there may be another hub
	Seen        int64    `json:"seen,omitempty"`    // Unix seconds: a time that is past, written at most daily
}

// next is a certificate that waits for its time.
type next struct {
	Certificate []byte `json:"certificate"` // DER
	From        int64  `json:"from"`        // Unix seconds
}

// redeemed is a join token that was used.
type redeemed struct {
	Key     []byte `json:"key"`     // the device that got a certificate for it, and gets one again
	Expires int64  `json:"expires"` // Unix seconds after which the token is refused for its age
}

// state is the hub's database.
type state struct {
	db *store.DB
}

func openState(dir string, log *slog.Logger) (*state, error) {
	db, err := store.Open(filepath.Join(dir, "hub.db"), schema, store.Options{Log: log})
	if err != nil {
		return nil, err
	}
	return &state{db: db}, nil
}

func (s *state) close() error { return s.db.Close() }

// self returns the hub's own row and whether there is one.
func (s *state) self() (me self, found bool, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		me, found, err = selfTable.Get(tx, selfKey)
		return err
	})
	return me, found, err
}

// change changes the hub's own row.
func (s *state) change(f func(*self)) error {
	return s.db.Update(func(tx *store.Tx) error {
		me, _, err := selfTable.Get(tx, selfKey)
		if err != nil {
			return err
		}
		f(&me)
		return selfTable.Put(tx, selfKey, me)
	})
}

// trust returns the stored trust document; nil if there is none.
func (s *state) trust() (doc []byte, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		doc, _, err = trustTable.Get(tx, trustKey)
		return err
	})
	return doc, err
}

// parsedTrust returns the trust in force, by the stored document.
func (s *state) parsedTrust(me self) (*identity.Trust, error) {
	doc, err := s.trust()
	if err != nil {
		return nil, err
	}
	trust, err := identity.ParseTrust([]byte(me.CA), doc)
	if err != nil {
		return nil, fmt.Errorf("hub.db: %w", err)
	}
	return trust, nil
}

// setTrust stores a trust document.
func (s *state) setTrust(doc []byte) error {
	return s.db.Update(func(tx *store.Tx) error { return trustTable.Put(tx, trustKey, doc) })
}

// redeem remembers that a token was used for a key. The same key may use it again; for another it
// is an error of identity.ErrToken. Tokens that have expired are forgotten on the way.
func (s *state) redeem(nonce string, r redeemed, now int64) error {
	return s.db.Update(func(tx *store.Tx) error {
		old, used, err := tokenTable.Get(tx, nonce)
		if err != nil {
			return err
		}
		if used && string(old.Key) != string(r.Key) {
			return fmt.Errorf("%w: it was used before", identity.ErrToken)
		}
		if err := forgetTokens(tx, now); err != nil {
			return err
		}
		return tokenTable.Put(tx, nonce, r)
	})
}

func forgetTokens(tx *store.Tx, now int64) error {
	var old []string
	err := tokenTable.ForEach(tx, "", func(nonce string, r redeemed) error {
		if r.Expires < now {
			old = append(old, nonce)
		}
		return nil
	})
	for _, nonce := range old {
		if err == nil {
			err = tokenTable.Delete(tx, nonce)
		}
	}
	return err
}

// seen keeps a time that is past, as the floor for a clock that is reset. It writes at most once a
// day.
func (s *state) seen(now time.Time) error {
	return s.db.Update(func(tx *store.Tx) error {
		me, found, err := selfTable.Get(tx, selfKey)
		if err != nil || !found || now.Unix()-me.Seen < int64((24*time.Hour).Seconds()) {
			return err
		}
		me.Seen = now.Unix()
		return selfTable.Put(tx, selfKey, me)
	})
}
