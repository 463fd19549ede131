package state

import (
	"bytes"
	"fmt"
	"slices"

	"ztm/store"
	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// Redeemed is a join token that was used, or revoked.
type Redeemed struct {
	Key     []byte   `json:"key,omitempty"`  // the first device that got a certificate for it, and gets one again
	More    [][]byte `json:"more,omitempty"` // the last of the others, at most maxKeys
	Used    int      `json:"used,omitempty"` // by how many; 0 with a Key is 1
	Revoked bool     `json:"revoked,omitempty"`
	Expires int64    `json:"expires"` // Unix seconds after which the token is refused for its age
}

// maxKeys is how many devices of one token get their certificate again without another use.
const maxKeys = 256

// used is how many devices have redeemed the token.
func (r Redeemed) used() int {
	if len(r.Key) > 0 {
		return max(r.Used, 1)
	}
	return r.Used
}

// Redeem remembers that a token was used for a key. The same key may use it again; where its uses
// are over, or it was revoked, it is an error of identity.ErrToken for another. Tokens that have
// expired are forgotten on the way.
func (s *State) Redeem(inv identity.Invitation, key []byte, now int64) error {
	return s.db.Update(func(tx *store.Tx) error {
		row, _, err := tokenTable.Get(tx, inv.Nonce)
		if err != nil {
			return err
		}
		same := func(k []byte) bool { return bytes.Equal(k, key) }
		switch {
		case same(row.Key) || slices.ContainsFunc(row.More, same):
			return nil
		case row.Revoked:
			return fmt.Errorf("%w: it was revoked", identity.ErrToken)
		case row.used() >= inv.Uses:
			return fmt.Errorf("%w: it was used before", identity.ErrToken)
		}
		me, _, err := selfTable.Get(tx, selfKey)
		if err != nil {
			return err
		}
		if me.Restored > 0 && inv.Admitted.Unix() <= me.Restored {
			return fmt.Errorf("%w: it is older than the backup from which this hub was restored, and may have been used: make a new one", identity.ErrToken)
		}
		if err := forgetTokens(tx, now); err != nil {
			return err
		}
		row.Used = row.used() + 1
		if row.Key == nil {
			row.Key = key
		} else {
			row.More = append(row.More, key)
			row.More = row.More[max(0, len(row.More)-maxKeys):]
		}
		row.Expires = inv.Expires.Unix()
		return tokenTable.Put(tx, inv.Nonce, row)
	})
}

// Token returns how often a token was redeemed here.
func (s *State) Token(nonce string) (use tunnel.TokenUse, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		row, _, err := tokenTable.Get(tx, nonce)
		use = tunnel.TokenUse{Used: row.used(), Revoked: row.Revoked, Expires: row.Expires}
		return err
	})
	return use, err
}

// Revoke ends a token that expires at a time, in Unix seconds.
func (s *State) Revoke(nonce string, expires, now int64) error {
	return s.db.Update(func(tx *store.Tx) error {
		row, _, err := tokenTable.Get(tx, nonce)
		if err != nil {
			return err
		}
		if err := forgetTokens(tx, now); err != nil {
			return err
		}
		row.Revoked, row.Expires = true, max(row.Expires, expires)
		return tokenTable.Put(tx, nonce, row)
	})
}

func forgetTokens(tx *store.Tx, now int64) error {
	var old []string
	err := tokenTable.ForEach(tx, "", func(nonce string, r Redeemed) error {
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
