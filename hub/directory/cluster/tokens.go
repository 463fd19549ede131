package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"ztm/store/etcd"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// spent is the value of a token that was used, or is void.
type spent struct {
	Keys    [][]byte         `json:"keys"` // of the devices that used it
	Void    bool             `json:"void,omitempty"`
	Expires unixtime.Seconds `json:"expires"` // after which the token is refused for its age
}

// mostKeys is the most devices that a token is good for here: a value has a limit.
const mostKeys = 4096

// Spend uses a join token that is good for so many devices for one of them, which may use it again.
// For one more it is an error of [identity.ErrToken], and so it is for one that was made before the
// store was restored from a backup: whether it was used since the backup is not known. made is zero
// where another decides that. Any other error says that it is not known whether it was used: the same
// device may ask again.
func (d *Directory) Spend(ctx context.Context, nonce string, key []byte, uses int, made, expires time.Time) error {
	return d.changeToken(ctx, nonce, expires, func(s *spent, restored time.Time) (changed bool, err error) {
		switch {
		case !made.IsZero() && !made.After(restored):
			return false, fmt.Errorf("%w: it is older than the backup from which the store of the hubs was restored, and may have been used: make a new one", identity.ErrToken)
		case slices.ContainsFunc(s.Keys, func(k []byte) bool { return bytes.Equal(k, key) }):
			return false, nil
		case s.Void:
			return false, fmt.Errorf("%w: it was revoked", identity.ErrToken)
		case len(s.Keys) >= min(uses, mostKeys):
			return false, fmt.Errorf("%w: it was used already", identity.ErrToken)
		}
		s.Keys = append(s.Keys, key)
		return true, nil
	})
}

// Void has a token be used by no other device. After an error it is not known whether it is void.
func (d *Directory) Void(ctx context.Context, nonce string, expires time.Time) error {
	return d.changeToken(ctx, nonce, expires, func(s *spent, _ time.Time) (changed bool, err error) {
		changed = !s.Void
		s.Void, s.Expires = true, max(s.Expires, unixtime.Of(expires))
		return changed, nil
	})
}

// Spent returns by how many devices a token was used, and whether it is void.
func (d *Directory) Spent(ctx context.Context, nonce string) (use tunnel.TokenUse, err error) {
	err = d.changeToken(ctx, nonce, time.Time{}, func(s *spent, _ time.Time) (changed bool, err error) {
		use = tunnel.TokenUse{Used: len(s.Keys), Revoked: s.Void}
		return false, nil
	})
	return use, err
}

// changeToken changes what the store has of a token, by a function that is called once more where
// another hub was faster. It is told when the store was restored.
func (d *Directory) changeToken(ctx context.Context, nonce string, expires time.Time, change func(s *spent, restored time.Time) (changed bool, err error)) error {
	if !d.isReady() {
		return errNotReady
	}
	at := d.prefix + tokPart + nonce
	for range mostTries {
		found, err := d.c.Client.Read(ctx, at, d.prefix+backKey)
		if err != nil {
			return err
		}
		was := found[at]
		s := spent{Expires: unixtime.Of(expires)}
		if was.Revision > 0 && json.Unmarshal(was.Value, &s) != nil {
			return fmt.Errorf("%w: what the store says of it is not understood", identity.ErrToken)
		}
		if changed, err := change(&s, d.restoredAt(found[d.prefix+backKey])); err != nil || !changed {
			return err
		}
		value, err := json.Marshal(s)
		if err != nil {
			return err
		}
		r, err := d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: at, Revision: was.Revision}}, Then: []etcd.Op{etcd.Put(at, value, 0)}})
		if err != nil || r.Done {
			return err
		}
	}
	return errNotReady
}

// markRestored has all hubs know that the store was restored, also those that start later. Where
// another hub is faster, its word does.
func (d *Directory) markRestored(ctx context.Context) error {
	key := d.prefix + backKey
	now, err := unixtime.Of(d.c.Now()).MarshalText()
	if err != nil {
		return err
	}
	was, err := d.c.Client.Get(ctx, key)
	if err != nil {
		return err
	}
	_, err = d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: key, Revision: was.Revision}}, Then: []etcd.Op{etcd.Put(key, now, 0)}})
	return err
}

// restoredAt returns when the store was restored, by what it says and by what this hub has noticed;
// zero: never.
func (d *Directory) restoredAt(said etcd.KV) time.Time {
	at := d.c.Client.Restored()
	var then unixtime.Seconds
	if then.UnmarshalText(said.Value) == nil && then.Time().After(at) {
		at = then.Time()
	}
	return at
}

// forgetAfter is how long after its end a token is remembered: clocks of hubs differ.
const forgetAfter = 24 * time.Hour

// sweep forgets tokens that have expired. What fails is tried again an hour later.
func (d *Directory) sweep(ctx context.Context) {
	var old []etcd.KV
	_, err := d.c.Client.List(ctx, d.prefix+tokPart, 0, func(kv etcd.KV) {
		var s spent
		if json.Unmarshal(kv.Value, &s) == nil && d.c.Now().After(s.Expires.Time().Add(forgetAfter)) {
			old = append(old, kv)
		}
	})
	for _, kv := range old {
		if err == nil {
			_, err = d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: kv.Key, Revision: kv.Revision}}, Then: []etcd.Op{etcd.Delete(kv.Key)}})
		}
	}
	if err != nil {
		d.c.Log.Warn("old tokens cannot be removed from the store", "err", err)
	}
}
