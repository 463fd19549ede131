package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ztm/store/etcd"
	"ztm/tunnel/identity"
)

// spent is the value of a token that was used.
type spent struct {
	Key     []byte `json:"key"`     // of the device that used it
	Expires int64  `json:"expires"` // Unix seconds after which the token is refused for its age
}

// Spend uses a join token for a key, for which it may be used again. For another key it is an error
// of [identity.ErrToken]. Any other error says that it is not known whether it was used: the same key
// may ask again.
func (d *Directory) Spend(ctx context.Context, nonce string, key []byte, expires time.Time) error {
	if !d.isReady() {
		return errNotReady
	}
	at := d.prefix + tokPart + nonce
	value, err := json.Marshal(spent{key, expires.Unix()})
	if err != nil {
		return err
	}
	r, err := d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: at}}, Then: []etcd.Op{etcd.Put(at, value, 0)}})
	if err != nil || r.Done {
		return err
	}
	var was spent
	if err := json.Unmarshal(r.Found[at].Value, &was); err != nil || !bytes.Equal(was.Key, key) {
		return fmt.Errorf("%w: it was used before", identity.ErrToken)
	}
	return nil
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
