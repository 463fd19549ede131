package etcd

import (
	"context"
	"fmt"
)

// Limits of etcd as it comes.
const (
	MaxRequest = 1_500_000 // bytes of a request, in JSON
	MaxOps     = 128       // conditions, and operations, of a transaction
	pageSize   = 500       // keys of a page
)

// KV is a key with its value.
type KV struct {
	Key      string
	Value    []byte // nil where only keys were asked for
	Revision int64  // of the last change of the key; 0: there is no such key
}

// wireKV is a KV as the gateway writes it. Zero values are left out.
type wireKV struct {
	Key      []byte `json:"key"`
	Value    []byte `json:"value"`
	Revision int64  `json:"mod_revision,string"`
}

func (w wireKV) kv() KV { return KV{string(w.Key), w.Value, w.Revision} }

type rangeRequest struct {
	Key         []byte `json:"key"`
	End         []byte `json:"range_end,omitempty"`
	Limit       int64  `json:"limit,string,omitempty"`
	Revision    int64  `json:"revision,string,omitempty"`
	MinRevision int64  `json:"min_mod_revision,string,omitempty"`
	KeysOnly    bool   `json:"keys_only,omitempty"`
}

type rangeAnswer struct {
	Header header   `json:"header"`
	KVs    []wireKV `json:"kvs"`
	More   bool     `json:"more"`
	Count  int64    `json:"count,string"`
}

// end returns the first key after those with a prefix.
func end(prefix string) []byte {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return b[:i+1]
		}
	}
	return []byte{0} // all keys
}

func (c *Client) read(ctx context.Context, r rangeRequest) (rangeAnswer, error) {
	before := c.known()
	var a rangeAnswer
	if _, err := c.post(ctx, "/v3/kv/range", r, &a); err != nil {
		return a, err
	}
	c.observe(before, a.Header)
	return a, nil
}

// Get reads a key. One that is not there has revision 0. What was written before is seen.
func (c *Client) Get(ctx context.Context, key string) (KV, error) {
	a, err := c.read(ctx, rangeRequest{Key: []byte(key)})
	if err != nil || len(a.KVs) == 0 {
		return KV{Key: key}, err
	}
	return a.KVs[0].kv(), nil
}

// Read reads some keys at one revision. Those that are not there have revision 0.
func (c *Client) Read(ctx context.Context, keys ...string) (map[string]KV, error) {
	var t Txn
	for _, key := range keys {
		t.If = append(t.If, Condition{key, -1}) // which no key has
	}
	r, err := c.Txn(ctx, t)
	return r.Found, err
}

// List calls f for all keys with a prefix in their order, as they were at a revision, which it
// returns; 0 is that of now. It reads them in pages.
func (c *Client) List(ctx context.Context, prefix string, at int64, f func(KV)) (revision int64, err error) {
	r := rangeRequest{Key: []byte(prefix), End: end(prefix), Limit: pageSize, Revision: at}
	for {
		a, err := c.read(ctx, r)
		if err != nil {
			return 0, err
		}
		if r.Revision == 0 {
			r.Revision = a.Header.Revision
		}
		for _, w := range a.KVs {
			f(w.kv())
		}
		if !a.More || len(a.KVs) == 0 {
			return r.Revision, nil
		}
		r.Key = append(a.KVs[len(a.KVs)-1].Key, 0)
	}
}

// Changed returns how many keys with a prefix there are, and whether any that is there has changed
// after a revision. Deleted ones show in the count alone.
func (c *Client) Changed(ctx context.Context, prefix string, after int64) (count int64, changed bool, err error) {
	a, err := c.read(ctx, rangeRequest{Key: []byte(prefix), End: end(prefix), Limit: 1, MinRevision: after + 1, KeysOnly: true})
	return a.Count, len(a.KVs) > 0, err
}

// Txn is a transaction: if all conditions hold, its operations are carried out, at once or not at
// all. It needs conditions, so that it has no effect the second time.
type Txn struct {
	If   []Condition
	Then []Op
}

// Condition holds if the last change of a key was at a revision; 0: if there is no such key.
type Condition struct {
	Key      string
	Revision int64
}

// Op is a change of a key. Make it with [Put] or [Delete].
type Op struct {
	put    *wirePut
	delete *wireKey
}

// Change returns what the operation does: it puts a value, or deletes the key.
func (o Op) Change() (key string, value []byte, put bool) {
	if o.put != nil {
		return string(o.put.Key), o.put.Value, true
	}
	return string(o.delete.Key), nil, false
}

type wirePut struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value,omitempty"`
	Lease int64  `json:"lease,string,omitempty"`
}

type wireKey struct {
	Key []byte `json:"key"`
}

// Put sets a key, for as long as a lease stands; 0 is for ever.
func Put(key string, value []byte, lease int64) Op {
	return Op{put: &wirePut{[]byte(key), value, lease}}
}

// Delete deletes a key, which need not be there.
func Delete(key string) Op { return Op{delete: &wireKey{[]byte(key)}} }

// Result is the outcome of a transaction.
type Result struct {
	Done     bool          // the conditions held
	Revision int64         // of the changes, or of what was found
	Found    map[string]KV // if not done: the keys of the conditions, as they are
	// Again says that the transaction was sent more than once, as an answer was missing. If it is not
	// done, what was found may be its own doing.
	Again bool
}

type wireCompare struct {
	Target   string `json:"target"`
	Result   string `json:"result"`
	Key      []byte `json:"key"`
	Revision int64  `json:"mod_revision,string"`
}

type wireOp struct {
	Put    *wirePut      `json:"request_put,omitempty"`
	Delete *wireKey      `json:"request_delete_range,omitempty"`
	Range  *rangeRequest `json:"request_range,omitempty"`
}

type txnRequest struct {
	Compare []wireCompare `json:"compare"`
	Success []wireOp      `json:"success"`
	Failure []wireOp      `json:"failure"`
}

type txnAnswer struct {
	Header    header `json:"header"`
	Succeeded bool   `json:"succeeded"`
	Responses []struct {
		Range *rangeAnswer `json:"response_range"`
	} `json:"responses"`
}

// Txn carries out a transaction. An error of [ErrUnknown] says that it may have been carried out, or
// may yet be: whoever needs to know reads the keys.
func (c *Client) Txn(ctx context.Context, t Txn) (Result, error) {
	if len(t.If) == 0 || len(t.If) > MaxOps || len(t.Then) > MaxOps {
		return Result{}, fmt.Errorf("etcd: a transaction of %d conditions and %d operations; want 1 to %d, and at most that", len(t.If), len(t.Then), MaxOps)
	}
	before := c.known()
	var a txnAnswer
	again, err := c.post(ctx, "/v3/kv/txn", t.wire(), &a)
	if err != nil {
		return Result{Again: again}, err
	}
	c.observe(before, a.Header)
	r := Result{Done: a.Succeeded, Revision: a.Header.Revision, Again: again}
	if r.Done {
		return r, nil
	}
	if len(a.Responses) != len(t.If) {
		return r, fmt.Errorf("etcd: %d answers for %d conditions", len(a.Responses), len(t.If))
	}
	r.Found = map[string]KV{}
	for i, cond := range t.If {
		r.Found[cond.Key] = KV{Key: cond.Key}
		if got := a.Responses[i].Range; got != nil && len(got.KVs) > 0 {
			r.Found[cond.Key] = got.KVs[0].kv()
		}
	}
	return r, nil
}

func (t *Txn) wire() txnRequest {
	var r txnRequest
	for _, cond := range t.If {
		r.Compare = append(r.Compare, wireCompare{"MOD", "EQUAL", []byte(cond.Key), cond.Revision})
		r.Failure = append(r.Failure, wireOp{Range: &rangeRequest{Key: []byte(cond.Key)}})
	}
	for _, op := range t.Then {
		r.Success = append(r.Success, wireOp{Put: op.put, Delete: op.delete})
	}
	return r
}
