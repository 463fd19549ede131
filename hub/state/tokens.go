package state

import (
	"ztm/store"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Redeem remembers that a token was used for a key. The same key may use it again; where its uses
// are over, or it was revoked, it is an error of identity.ErrToken for another. Tokens that have
// expired are forgotten on the way.
func (s *State) Redeem(inv identity.Invitation, key []byte, now unixtime.Seconds) error {
	return s.db.Update(func(tx *store.Tx) error {
		me, _, err := selfTable.Get(tx, selfKey)
		if err != nil {
			return err
		}
		return tokenTable.Redeem(tx, inv, identity.IDOf(key), me.Restored, now)
	})
}

// Note is Redeem for a token that hubs have decided about together: it is for the day on which what
// they share is older than this hub. Whether the hub itself is older does not matter.
func (s *State) Note(inv identity.Invitation, key []byte, now unixtime.Seconds) error {
	return s.db.Update(func(tx *store.Tx) error { return tokenTable.Redeem(tx, inv, identity.IDOf(key), 0, now) })
}

// Token returns how often a token was redeemed here.
func (s *State) Token(nonce string) (use tunnel.TokenUse, err error) {
	err = s.db.View(func(tx *store.Tx) error {
		u, err := tokenTable.Get(tx, nonce)
		use = tunnel.TokenUse{Used: u.Used, Revoked: u.Revoked, Expires: u.Expires}
		return err
	})
	return use, err
}

// Revoke ends a token that expires at a time, in Unix seconds.
func (s *State) Revoke(nonce string, expires, now unixtime.Seconds) error {
	return s.db.Update(func(tx *store.Tx) error {
		if err := tokenTable.Forget(tx, now); err != nil {
			return err
		}
		return tokenTable.Revoke(tx, nonce, expires)
	})
}
