// Package redeemed keeps in a database how often join tokens were redeemed, and which were revoked.
// It is the one place that decides whether a token is good for one more device: at an endpoint of
// root, and at a hub that keeps the CA key.
//
// All is done in the caller's transaction, so of many at once no more succeed than may.
package redeemed

import (
	"fmt"
	"slices"

	"ztm/store"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// maxKeys is how many devices of one token get their certificate again without another use, beside
// the first.
const maxKeys = 256

// Use is what is known of a token. The zero value is a token that nobody used.
type Use struct {
	Key     identity.ID      `json:"key,omitempty"`  // the first device that redeemed it
	More    []identity.ID    `json:"more,omitempty"` // the last of the others, at most maxKeys
	Used    int              `json:"used,omitempty"` // by how many
	Revoked bool             `json:"revoked,omitempty"`
	Expires unixtime.Seconds `json:"expires"` // after which the token is refused for its age
}

// By reports whether a device has redeemed the token.
func (u *Use) By(key identity.ID) bool { return u.Key == key || slices.Contains(u.More, key) }

// Table is the tokens of a database, by nonce.
type Table struct{ rows store.Table[Use] }

// NewTable returns the table of that name; see [store.NewTable].
func NewTable(name string) Table { return Table{store.NewTable[Use](name)} }

// Get returns what is known of a token.
func (t Table) Get(tx *store.Tx, nonce string) (Use, error) {
	u, _, err := t.rows.Get(tx, nonce)
	return u.counted(), err
}

// counted is a use with its count: databases of before there were tokens for several devices have
// none.
func (u Use) counted() Use {
	if u.Key != "" {
		u.Used = max(u.Used, 1)
	}
	return u
}

// Redeem remembers that a device used a token. The same device may ask again: the first answer may
// have been lost on the way. Where the uses are over, the token was revoked, or it is not younger
// than the backup from which the database was restored (Unix seconds; 0: it was not), it is an error
// of [identity.ErrToken] for another one. Tokens that have expired are forgotten on the way.
func (t Table) Redeem(tx *store.Tx, inv identity.Invitation, key identity.ID, restored, now unixtime.Seconds) error {
	u, err := t.Get(tx, inv.Nonce)
	switch {
	case err != nil || u.By(key):
		return err
	case u.Revoked:
		return fmt.Errorf("%w: it was revoked", identity.ErrToken)
	case u.Used >= inv.Uses:
		return fmt.Errorf("%w: it was used already", identity.ErrToken)
	case restored > 0 && unixtime.Of(inv.Admitted) <= restored: // since the backup it may have been used, or revoked
		return fmt.Errorf("%w: it is older than the backup from which its redeemer was restored, and may have been used: make a new one", identity.ErrToken)
	}
	if err := t.Forget(tx, now); err != nil {
		return err
	}
	if u.Used++; u.Key == "" {
		u.Key = key
	} else {
		u.More = append(u.More, key)
		u.More = u.More[max(0, len(u.More)-maxKeys):]
	}
	u.Expires = unixtime.Of(inv.Expires)
	return t.rows.Put(tx, inv.Nonce, u)
}

// Revoke ends a token that expires at a time, in Unix seconds.
func (t Table) Revoke(tx *store.Tx, nonce string, expires unixtime.Seconds) error {
	u, err := t.Get(tx, nonce)
	if err != nil {
		return err
	}
	u.Revoked, u.Expires = true, max(u.Expires, expires)
	return t.rows.Put(tx, nonce, u)
}

// Forget forgets tokens that are refused for their age.
func (t Table) Forget(tx *store.Tx, now unixtime.Seconds) error {
	return t.rows.DeleteFunc(tx, "", func(_ string, u Use) bool { return u.Expires < now })
}

// Keep adds to a database what another knows of tokens: no use and no revocation is lost.
func (t Table) Keep(to, from *store.DB) error {
	known := map[string]Use{}
	err := from.View(func(tx *store.Tx) error {
		return t.rows.ForEach(tx, "", func(nonce string, u Use) error {
			known[nonce] = u.counted()
			return nil
		})
	})
	if err != nil {
		return err
	}
	return to.Update(func(tx *store.Tx) error {
		for nonce, u := range known {
			old, err := t.Get(tx, nonce)
			if old.Used > u.Used {
				u, old = old, u
			}
			if u.Revoked = u.Revoked || old.Revoked; err == nil {
				err = t.rows.Put(tx, nonce, u)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
