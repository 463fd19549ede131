// Package tokens keeps join tokens in an endpoint's database: which were made or redeemed here, and
// which devices wait for a person. It is the one place that decides how often a token is good.
package tokens

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ztm/agent/authority"
	"ztm/agent/limits"
	"ztm/store"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The tables of agent.db.
var (
	tokenTable    = store.NewTable[redeemedRow]("joinTokens") // key: nonce of a token that was redeemed or revoked here
	issuedTable   = store.NewTable[issuedRow]("issued")       // key: mesh/nonce of a token that was made or redeemed here
	askTable      = store.NewTable[askRow]("approvals")       // key: mesh/ID of a device that waits for a person
	restoredTable = store.NewTable[int64]("restored")         // key restoredKey: Unix seconds
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

// redeemedRow says which keys redeemed a token.
type redeemedRow struct {
	Key     identity.ID   `json:"key,omitempty"`  // the first that redeemed it
	More    []identity.ID `json:"more,omitempty"` // the last of the others, at most limits.TokenKeys
	Used    int           `json:"used,omitempty"` // by how many keys; 0 with a Key is 1
	Revoked bool          `json:"revoked,omitempty"`
	Expires int64         `json:"expires"`
}

// used is by how many keys a token was redeemed.
func (r redeemedRow) used() int {
	if r.Key != "" {
		return max(r.Used, 1)
	}
	return r.Used
}

// issuedRow is a token that was made or redeemed here.
type issuedRow struct {
	User      string      `json:"user"`
	Expires   int64       `json:"expires"`
	Made      int64       `json:"made"` // Unix seconds; its admission time
	Uses      int         `json:"uses,omitempty"`
	Ephemeral bool        `json:"ephemeral,omitempty"`
	Approve   bool        `json:"approve,omitempty"`
	By        identity.ID `json:"by,omitempty"`
	Redeemer  identity.ID `json:"redeemer"`
}

// askRow is a device that waits for a person.
type askRow struct {
	Name    string        `json:"name"`
	User    string        `json:"user"`
	Nonce   string        `json:"nonce"`
	Since   int64         `json:"since"`
	Expires int64         `json:"expires"`
	Answer  authority.Nod `json:"answer,omitempty"`
}

// Redeem implements [authority.Book]. It is the one place that decides, in one transaction, so of
// many at once no more succeed than may. The same key may come again: the first answer may have
// been lost on the way.
func (b Store) Redeem(inv identity.Invitation, key identity.ID, now time.Time) error {
	return b.DB.Update(func(tx *store.Tx) error {
		row, _, err := tokenTable.Get(tx, inv.Nonce)
		if err != nil {
			return err
		}
		switch {
		case row.Key == key || slices.Contains(row.More, key):
			return nil
		case row.Revoked:
			return answer.Errorf(answer.Denied, "this join token was revoked")
		case row.used() >= inv.Uses:
			return answer.Errorf(answer.Denied, "this join token was used already")
		}
		if err := checkRestored(tx, inv); err != nil {
			return err
		}
		if err := forgetTokens(tx, now); err != nil {
			return err
		}
		row.Used = row.used() + 1
		if row.Key == "" {
			row.Key = key
		} else {
			row.More = append(row.More, key)
			row.More = row.More[max(0, len(row.More)-limits.TokenKeys):]
		}
		row.Expires = inv.Expires.Unix()
		if err := tokenTable.Put(tx, inv.Nonce, row); err != nil {
			return err
		}
		if err := askTable.Delete(tx, b.Mesh+"/"+string(key)); err != nil {
			return err
		}
		return b.putIssued(tx, inv)
	})
}

// checkRestored refuses a token of before a restore: since the backup was made it may have been
// used, used once more, or revoked.
func checkRestored(tx *store.Tx, inv identity.Invitation) error {
	at, found, err := restoredTable.Get(tx, restoredKey)
	if err == nil && found && inv.Admitted.Unix() <= at {
		return answer.Errorf(answer.Denied, "this join token is older than the backup from which the endpoint that redeems it was restored, and may have been used: make a new one")
	}
	return err
}

// forgetTokens forgets tokens that are refused for their age.
func forgetTokens(tx *store.Tx, now time.Time) error {
	var old []string
	if err := tokenTable.ForEach(tx, "", func(n string, r redeemedRow) error {
		if r.Expires < now.Unix() {
			old = append(old, n)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, n := range old {
		if err := tokenTable.Delete(tx, n); err != nil {
			return err
		}
	}
	return nil
}

// NoteIssued implements [authority.Book].
func (b Store) NoteIssued(inv identity.Invitation, now time.Time) error {
	return b.DB.Update(func(tx *store.Tx) error {
		var old []string
		n := 0
		err := issuedTable.ForEach(tx, b.Mesh+"/", func(key string, r issuedRow) error {
			if n++; r.Expires < now.Unix() {
				old = append(old, key)
			}
			return nil
		})
		for _, key := range old {
			if err == nil {
				err = issuedTable.Delete(tx, key)
			}
		}
		if err != nil {
			return err
		}
		if n-len(old) >= limits.Tokens {
			return answer.Errorf(answer.Limit, "%d join tokens of this endpoint are open: revoke some, see ztm get token", limits.Tokens)
		}
		return b.putIssued(tx, inv)
	})
}

func (b Store) putIssued(tx *store.Tx, inv identity.Invitation) error {
	return issuedTable.Put(tx, b.Mesh+"/"+inv.Nonce, issuedRow{
		User: inv.User, Expires: inv.Expires.Unix(), Made: inv.Admitted.Unix(), Uses: inv.Uses, Ephemeral: inv.Ephemeral, Approve: inv.Approve,
		By: inv.By, Redeemer: inv.Redeemer,
	})
}

// Issued implements [authority.Book].
func (b Store) Issued(now time.Time) (all []authority.Issued, err error) {
	err = b.DB.View(func(tx *store.Tx) error {
		return issuedTable.ForEach(tx, b.Mesh+"/", func(key string, r issuedRow) error {
			nonce := strings.TrimPrefix(key, b.Mesh+"/")
			row, _, err := tokenTable.Get(tx, nonce)
			if err == nil && r.Expires >= now.Unix() {
				all = append(all, authority.Issued{
					Invitation: identity.Invitation{User: r.User, Admitted: time.Unix(r.Made, 0), Expires: time.Unix(r.Expires, 0), Nonce: nonce,
						Uses: max(r.Uses, 1), Ephemeral: r.Ephemeral, Approve: r.Approve, By: r.By, Redeemer: r.Redeemer},
					Used: row.used(), Revoked: row.Revoked,
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

// Revoke implements [authority.Book].
func (b Store) Revoke(nonce string, expires time.Time) error {
	return b.DB.Update(func(tx *store.Tx) error {
		row, _, err := tokenTable.Get(tx, nonce)
		if err != nil {
			return err
		}
		row.Revoked, row.Expires = true, expires.Unix()
		return tokenTable.Put(tx, nonce, row)
	})
}

// Ask implements [authority.Book].
func (b Store) Ask(inv identity.Invitation, id identity.ID, name string, now time.Time) (nod authority.Nod, err error) {
	key := b.Mesh + "/" + string(id)
	err = b.DB.Update(func(tx *store.Tx) error {
		// The answer to the device that was approved may have been lost.
		if token, _, err := tokenTable.Get(tx, inv.Nonce); err != nil || token.Key == id || slices.Contains(token.More, id) {
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
		return askTable.Put(tx, key, askRow{Name: name, User: inv.User, Nonce: inv.Nonce, Since: now.Unix(), Expires: inv.Expires.Unix()})
	})
	return nod, err
}

// makeRoomToAsk forgets devices whose tokens have expired. Whoever has a token gets few places, and
// the places of others are not given away.
func (b Store) makeRoomToAsk(tx *store.Tx, nonce, own string, now time.Time) error {
	var old []string
	all, same := 0, 0
	err := askTable.ForEach(tx, b.Mesh+"/", func(key string, r askRow) error {
		switch {
		case r.Expires < now.Unix():
			old = append(old, key)
		case key != own:
			all++
			if r.Nonce == nonce {
				same++
			}
		}
		return nil
	})
	for _, key := range old {
		if err == nil {
			err = askTable.Delete(tx, key)
		}
	}
	if err == nil && (all >= limits.Approvals || same >= limits.ApprovalsOfToken) {
		err = answer.Errorf(answer.Limit, "too many devices wait for approval: try again later")
	}
	return err
}

// Asking implements [authority.Book].
func (b Store) Asking(now time.Time) (all []authority.Asking, err error) {
	err = b.DB.View(func(tx *store.Tx) error {
		return askTable.ForEach(tx, b.Mesh+"/", func(key string, r askRow) error {
			if r.Expires >= now.Unix() {
				all = append(all, authority.Asking{ID: identity.ID(strings.TrimPrefix(key, b.Mesh+"/")), Name: r.Name, User: r.User,
					Since: time.Unix(r.Since, 0), Expires: time.Unix(r.Expires, 0), Nod: r.Answer})
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
	return db.Update(func(tx *store.Tx) error { return restoredTable.Put(tx, restoredKey, now.Unix()) })
}

// Keep adds to a database the tokens that were used or revoked according to another.
func Keep(db, other *store.DB) error {
	used := map[string]redeemedRow{}
	err := other.View(func(tx *store.Tx) error {
		return tokenTable.ForEach(tx, "", func(nonce string, r redeemedRow) error {
			used[nonce] = r
			return nil
		})
	})
	if err != nil {
		return err
	}
	return db.Update(func(tx *store.Tx) error {
		for nonce, r := range used {
			old, _, err := tokenTable.Get(tx, nonce)
			if old.used() > r.used() {
				r, old = old, r
			}
			if r.Revoked = r.Revoked || old.Revoked; err == nil {
				err = tokenTable.Put(tx, nonce, r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
