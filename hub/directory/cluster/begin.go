package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"ztm/hub/directory"
	"ztm/store"
	"ztm/store/etcd"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// meta says whose etcd this is. The first hub brings what it had before: while it does, the state is
// "importing", and other hubs wait.
type meta struct {
	Schema int         `json:"schema"`
	Mesh   identity.ID `json:"mesh"`
	State  string      `json:"state"`
	Hub    identity.ID `json:"hub"` // which imports
}

const importing, readyState = "importing", "ready"

// ErrForeign is returned for an etcd that is not for this mesh, or for a later version.
var ErrForeign = fmt.Errorf("the store is not for this hub")

// Begin asks etcd whose it is, and brings what this hub has if it is the first. It returns
// [ErrForeign] if it is another's.
func (d *Directory) Begin(ctx context.Context) error {
	if d.isReady() {
		return nil
	}
	key := d.prefix + metaKey
	mine := meta{schema, d.c.Mesh, importing, d.c.Hub}
	b, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	r, err := d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: key}}, Then: []etcd.Op{etcd.Put(key, b, 0)}})
	if err != nil {
		return err
	}
	revision := r.Revision
	if !r.Done {
		was := r.Found[key]
		revision = was.Revision
		var m meta
		if err := json.Unmarshal(was.Value, &m); err != nil || m.Mesh != d.c.Mesh || m.Schema > schema {
			return fmt.Errorf("%w: it is for mesh %q, in version %d", ErrForeign, m.Mesh, m.Schema)
		}
		switch {
		case m.State == readyState:
			d.setReady()
			return nil
		case m.Hub != d.c.Hub:
			return fmt.Errorf("%w: hub %s still brings what it has", errNotReady, m.Hub)
		}
	}
	if err := d.bring(ctx); err != nil {
		return err
	}
	mine.State = readyState
	if b, err = json.Marshal(mine); err != nil {
		return err
	}
	if _, err = d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: key, Revision: revision}}, Then: []etcd.Op{etcd.Put(key, b, 0)}}); err == nil {
		d.setReady()
	}
	return err
}

// joinedTable has a row for a mesh whose store this hub has followed: what is in its directory and not
// in the store was removed.
var joinedTable = store.NewTable[bool]("cluster")

// join is done when all was read for the first time. Before, what this hub has and etcd has not is
// told to etcd as if its endpoints had come now: names that are still free stay theirs. What other hubs
// have told is not: it may have left since, and those hubs bring it if it is there.
func (d *Directory) join() error {
	d.mu.Lock()
	joined := d.joined
	d.joined = true
	d.mu.Unlock()
	if joined {
		return nil
	}
	return d.db.Update(func(tx *store.Tx) error { return joinedTable.Put(tx, string(d.c.Mesh), true) })
}

// Leave is for a hub that starts without a store: what it has is its own from now on. It reports
// whether there was a store.
func Leave(db *store.DB, mesh identity.ID) (was bool, err error) {
	err = db.View(func(tx *store.Tx) error {
		_, was, err = joinedTable.Get(tx, string(mesh))
		return err
	})
	if err != nil || !was {
		return was, err
	}
	return was, db.Update(func(tx *store.Tx) error { return joinedTable.Delete(tx, string(mesh)) })
}

func (d *Directory) isReady() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready
}

func (d *Directory) setReady() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ready = true
}

// batch is how many endpoints or names are brought in one transaction, which may have 128 operations
// and 1.5 MB.
const batch = 40

// bring puts into etcd what this hub has had without it: records as they were signed, and names that
// are kept. A batch of which anything is there already was brought before, by a start that failed.
func (d *Directory) bring(ctx context.Context) error {
	var txn etcd.Txn
	flush := func() error {
		if len(txn.If) == 0 {
			return nil
		}
		_, err := d.c.Client.Txn(ctx, txn)
		txn = etcd.Txn{}
		return err
	}
	put := func(key string, value []byte) {
		txn.If = append(txn.If, etcd.Condition{Key: key})
		txn.Then = append(txn.Then, etcd.Put(key, value, 0))
	}
	var all []func()
	d.Each(func(e directory.Endpoint, _ bool) {
		all = append(all, func() {
			put(d.nameKey(e.Record.Name), holder{ID: e.Subject.ID}.bytes())
			put(d.epKey(e.Subject.ID), e.Doc)
		})
	})
	d.EachKept(func(name string, k directory.Kept) {
		all = append(all, func() { put(d.nameKey(name), holder{User: k.User, Until: unixtime.Of(k.Until)}.bytes()) })
	})
	for i, add := range all {
		if add(); i%batch == batch-1 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
