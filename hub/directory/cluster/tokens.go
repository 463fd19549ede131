package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"ztm/store/etcd"
	"ztm/tunnel/identity"
)

// spent is the value of a token that was used.
type spent struct {
	Keys    [][]byte `json:"keys"`    // of the devices that used it
	Expires int64    `json:"expires"` // Unix seconds after which the token is refused for its age
}

// mostKeys is the most devices that a token is good for here: a value has a limit.
const mostKeys = 4096

// Spend uses a join token that is good for so many devices for one of them, which may use it again.
// For one more it is an error of [identity.ErrToken]. Any other error says that it is not known
// whether it was used: the same device may ask again.
func (d *Directory) Spend(ctx context.Context, nonce string, key []byte, uses int, expires time.Time) error {
	if !d.isReady() {
		return errNotReady
	}
	at := d.prefix + tokPart + nonce
	var was etcd.KV
	for range mostTries {
		s := spent{Expires: expires.Unix()}
		if was.Revision > 0 && json.Unmarshal(was.Value, &s) != nil {
			return fmt.Errorf("%w: what the store says of it is not understood", identity.ErrToken)
		}
		if slices.ContainsFunc(s.Keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			return nil
		}
		if len(s.Keys) >= min(uses, mostKeys) {
			return fmt.Errorf("%w: it was used already", identity.ErrToken)
		}
		s.Keys = append(s.Keys, key)
		value, err := json.Marshal(s)
		if err != nil {
			return err
		}
		r, err := d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: at, Revision: was.Revision}}, Then: []etcd.Op{etcd.Put(at, value, 0)}})
		if err != nil || r.Done {
			return err
		}
		was = r.Found[at]
	}
	return errNotReady
}

// forgetAfter is how long after its end a token is remembered: clocks of hubs differ.
const forgetAfter = 24 * time.Hour

// sweep forgets tokens that have expired. What fails is tried again an hour later.
func (d *Directory) sweep(ctx context.Context) {
	var old []etcd.KV
	_, err := d.c.Client.List(ctx, d.prefix+tokPart, 0, func(kv etcd.KV) {
		var s spent
		if json.Unmarshal(kv.Value, &s) == nil && d.c.Now().After(time.Unix(s.Expires, 0).Add(forgetAfter)) {
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
