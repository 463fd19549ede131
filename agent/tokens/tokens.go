// Package tokens keeps join tokens in an endpoint's database: which were made or redeemed here, and
// which devices wait for a person. How often a token is good is decided by package redeemed.
package tokens

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"ztm/agent/authority"
	"ztm/agent/limits"
	"ztm/store"
	"ztm/store/redeemed"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// The tables of agent.db.
var (
	tokenTable    = redeemed.NewTable("joinTokens")              // what was redeemed or revoked here
	issuedTable   = store.NewTable[issuedRow]("issued")          // key: mesh/nonce of a token that was made or redeemed here
	askTable      = store.NewTable[askRow]("approvals")          // key: mesh/ID of a device that waits for a person
	restoredTable = store.NewTable[unixtime.Seconds]("restored") // key restoredKey
)

const restoredKey = "at"

// Store is the tokens of one mesh. Its methods may be called from any goroutine.
type Store struct {
	DB   *store.DB
	Mesh string // its name here
}

// Forget deletes what is kept for a mesh but for tokens that were used: they stay used.
func Forget(tx *store.Tx, mesh string) error {
	issued, err := issuedTable.Keys(tx, mesh+"/")
	for _, key := range issued {
		if err == nil {
			err = issuedTable.Delete(tx, key)
		}
	}
	if err != nil {
		return err
	}
	asking, err := askTable.Keys(tx, mesh+"/")
	for _, key := range asking {
		if err == nil {
			err = askTable.Delete(tx, key)
		}
	}
	return err
}

// issuedRow is a token that was made or redeemed here.
type issuedRow struct {
	User      string           `json:"user"`
	Expires   unixtime.Seconds `json:"expires"`
	Made      unixtime.Seconds `json:"made"` // its admission time
	Uses      int              `json:"uses,omitempty"`
	Ephemeral bool             `json:"ephemeral,omitempty"`
	Approve   bool             `json:"approve,omitempty"`
	By        identity.ID      `json:"by,omitempty"`
	Redeemer  identity.ID      `json:"redeemer"`
}

// askRow is a device that waits for a person.
type askRow struct {
	Name    string           `json:"name"`
	User    string           `json:"user"`
	Nonce   string           `json:"nonce"`
	Since   unixtime.Seconds `json:"since"`
	Expires unixtime.Seconds `json:"expires"`
	Answer  authority.Nod    `json:"answer,omitempty"`
}

// Redeem implements [authority.Book].
func (b Store) Redeem(inv identity.Invitation, key identity.ID, now time.Time) error {
	err := b.DB.Update(func(tx *store.Tx) error {
		restored, _, err := restoredTable.Get(tx, restoredKey)
		if err != nil {
			return err
		}
		if err := tokenTable.Redeem(tx, inv, key, restored, unixtime.Of(now)); err != nil {
			return err
		}
		if err := askTable.Delete(tx, b.Mesh+"/"+string(key)); err != nil {
			return err
		}
		if _, err := b.forgetOld(tx, now); err != nil {
			return err
		}
		return b.putIssued(tx, inv)
	})
	if errors.Is(err, identity.ErrToken) {
		return answer.Errorf(answer.Denied, "%v", err)
	}
	return err
}

// NoteIssued implements [authority.Book].
func (b Store) NoteIssued(inv identity.Invitation, now time.Time) error {
	return b.DB.Update(func(tx *store.Tx) error {
		open, err := b.forgetOld(tx, now)
		if err != nil {
			return err
		}
		if open >= limits.Tokens {
			return answer.Errorf(answer.Limit, "%d join tokens of this endpoint are open: revoke some, see ztm get token", limits.Tokens)
		}
		return b.putIssued(tx, inv)
	})
}

// forgetOld forgets tokens that have expired, made here or elsewhere, and returns how many are open.
func (b Store) forgetOld(tx *store.Tx, now time.Time) (open int, err error) {
	err = issuedTable.DeleteFunc(tx, b.Mesh+"/", func(_ string, r issuedRow) bool {
		old := r.Expires < unixtime.Of(now)
		if !old {
			open++
		}
		return old
	})
	return open, err
}

func (b Store) putIssued(tx *store.Tx, inv identity.Invitation) error {
	return issuedTable.Put(tx, b.Mesh+"/"+inv.Nonce, issuedRow{
		User: inv.User, Expires: unixtime.Of(inv.Expires), Made: unixtime.Of(inv.Admitted), Uses: inv.Uses, Ephemeral: inv.Ephemeral, Approve: inv.Approve,
		By: inv.By, Redeemer: inv.Redeemer,
	})
}

// Issued implements [authority.Book].
func (b Store) Issued(now time.Time) (all []authority.Issued, err error) {
	err = b.DB.View(func(tx *store.Tx) error {
		restored, _, err := restoredTable.Get(tx, restoredKey)
		if err != nil {
			return err
		}
		return issuedTable.ForEach(tx, b.Mesh+"/", func(key string, r issuedRow) error {
			nonce := strings.TrimPrefix(key, b.Mesh+"/")
			use, err := tokenTable.Get(tx, nonce)
			if err == nil && r.Expires >= unixtime.Of(now) {
				all = append(all, authority.Issued{
					Invitation: identity.Invitation{User: r.User, Admitted: r.Made.Time(), Expires: r.Expires.Time(), Nonce: nonce,
						Uses: max(r.Uses, 1), Ephemeral: r.Ephemeral, Approve: r.Approve, By: r.By, Redeemer: r.Redeemer},
					Used: use.Used, Revoked: use.Revoked, Stale: r.Made <= restored,
				})
			}
			return err
		})
	})
	slices.SortFunc(all, func(x, y authority.Issued) int {
		return cmp.Or(x.Expires.Compare(y.Expires), cmp.Compare(x.Nonce, y.Nonce))
	})
	return all, err
}

// Use implements [authority.Book].
func (b Store) Use(nonce string) (used int, revoked bool, err error) {
	err = b.DB.View(func(tx *store.Tx) error {
		use, err := tokenTable.Get(tx, nonce)
		used, revoked = use.Used, use.Revoked
		return err
	})
	return used, revoked, err
}

// Revoke implements [authority.Book].
func (b Store) Revoke(nonce string, expires time.Time) error {
	return b.DB.Update(func(tx *store.Tx) error { return tokenTable.Revoke(tx, nonce, unixtime.Of(expires)) })
}

// Ask implements [authority.Book].
func (b Store) Ask(inv identity.Invitation, id identity.ID, name string, now time.Time) (nod authority.Nod, err error) {
	key := b.Mesh + "/" + string(id)
	err = b.DB.Update(func(tx *store.Tx) error {
		// The answer to the device that was approved may have been lost.
		if use, err := tokenTable.Get(tx, inv.Nonce); err != nil || use.By(id) {
			nod = authority.Approved
			return err
		}
		row, found, err := askTable.Get(tx, key)
		if err != nil {
			return err
		}
		if found && row.Nonce == inv.Nonce && row.Name == name {
			nod = row.Answer
			return nil
		}
		if err := b.makeRoomToAsk(tx, inv.Nonce, key, now); err != nil {
			return err
		}
		return askTable.Put(tx, key, askRow{Name: name, User: inv.User, Nonce: inv.Nonce, Since: unixtime.Of(now), Expires: unixtime.Of(inv.Expires)})
	})
	return nod, err
}

// makeRoomToAsk forgets devices whose tokens have expired. Whoever has a token gets few places, and
// the places of others are not given away.
func (b Store) makeRoomToAsk(tx *store.Tx, nonce, own string, now time.Time) error {
	all, same := 0, 0
	err := askTable.DeleteFunc(tx, b.Mesh+"/", func(key string, r askRow) bool {
		old := r.Expires < unixtime.Of(now)
		if !old && key != own {
			all++
			if r.Nonce == nonce {
				same++
			}
		}
		return old
	})
	if err == nil && (all >= limits.Approvals || same >= limits.ApprovalsOfToken) {
		err = answer.Errorf(answer.Limit, "too many devices wait for approval: try again later")
	}
	return err
}

// Asking implements [authority.Book].
func (b Store) Asking(now time.Time) (all []authority.Asking, err error) {
	err = b.DB.View(func(tx *store.Tx) error {
		return askTable.ForEach(tx, b.Mesh+"/", func(key string, r askRow) error {
			if r.Expires >= unixtime.Of(now) {
				all = append(all, authority.Asking{ID: identity.ID(strings.TrimPrefix(key, b.Mesh+"/")), Name: r.Name, User: r.User,
					Since: r.Since.Time(), Expires: r.Expires.Time(), Nod: r.Answer})
			}
			return nil
		})
	})
	slices.SortFunc(all, func(x, y authority.Asking) int { return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.ID, y.ID)) })
	return all, err
}

// Answer implements [authority.Book].
func (b Store) Answer(id identity.ID, nod authority.Nod) error {
	key := b.Mesh + "/" + string(id)
	return b.DB.Update(func(tx *store.Tx) error {
		row, found, err := askTable.Get(tx, key)
		if err != nil || !found {
			return err
		}
		row.Answer = nod
		return askTable.Put(tx, key, row)
	})
}

// MarkRestored notes that a database was restored from a backup: which of the tokens made before that
// were used since the backup is not known.
func MarkRestored(db *store.DB, now time.Time) error {
	return db.Update(func(tx *store.Tx) error { return restoredTable.Put(tx, restoredKey, unixtime.Of(now)) })
}

// Keep adds to a database the tokens that were used or revoked according to another.
func Keep(db, other *store.DB) error { return tokenTable.Keep(db, other) }
