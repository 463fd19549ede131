package cluster

import (
	"context"

	"ztm/hub/directory"
	"ztm/store/etcd"
	"ztm/tunnel/identity"
)

// Learn takes the record of an endpoint from another hub, under a name that is the endpoint's own or
// nobody's. It is what hubs have of each other while etcd is away, and what etcd says later counts.
func (d *Directory) Learn(doc []byte, rec identity.Record, subject identity.Subject) (holder identity.ID, err error) {
	if d.Name(subject.ID) == rec.Name {
		if d.Admits(rec, subject) != nil {
			return "", nil
		}
		return "", d.Local.Put(doc, rec, subject)
	}
	holder, saved := d.hear(directory.Endpoint{Doc: doc, Record: rec, Subject: subject})
	if saved == nil {
		return holder, nil
	}
	return "", saved() // what etcd confirms later is not written again
}

// hear takes the record of an endpoint whose name etcd has not given it yet, and returns how to wait
// until it is on disk; nil and who has the name, if anybody, where it is not taken.
func (d *Directory) hear(e directory.Endpoint) (holder identity.ID, saved func() error) {
	d.mu.Lock()
	defer d.mu.Unlock() // or etcd might give the name to another one meanwhile
	if h := d.Holder(e.Record.Name); h != "" && h != e.Subject.ID {
		return h, nil
	}
	if d.owed[e.Subject.ID].remove || d.Admits(e.Record, e.Subject) != nil {
		return "", nil
	}
	d.heard[e.Subject.ID] = struct{}{}
	e.Copy = !d.joined // then it is not this hub's to bring
	return "", d.Decide(directory.Decision{Puts: []directory.Endpoint{e}})
}

// told returns which endpoints other hubs have told of so far. A hub tells of an endpoint after etcd
// has it, so what etcd is asked from now on has all of them.
func (d *Directory) told() (ids []identity.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.heard {
		ids = append(ids, id)
	}
	return ids
}

// disown has endpoints that other hubs told of be as etcd has them, or go if it has not got them. Not
// all is read for that: a hub that lies would have the others read all again and again.
func (d *Directory) disown(ctx context.Context, told []identity.ID) error {
	for _, id := range told {
		kv := etcd.KV{Key: d.epKey(id)}
		if d.strays(id) {
			var err error
			if kv, err = d.c.Client.Get(ctx, kv.Key); err != nil {
				return err
			}
		}
		saved := d.settle(id, fact{kv, kv.Revision == 0})
		if err := saved(); err != nil {
			d.c.Log.Warn("the copy of the directory cannot be saved", "err", err)
		}
	}
	return nil
}

// settle puts in force what etcd has of an endpoint that another hub told of. What is known by now may
// be newer, and what etcd is yet to be told stays.
func (d *Directory) settle(id identity.ID, f fact) (saved func() error) {
	records := d.verify([]fact{f})
	d.mu.Lock()
	defer d.mu.Unlock()
	var x directory.Decision
	if d.doubtfulLocked(id) && d.known.endpoints[id].revision == f.Revision {
		d.endpointLocked(&x, id, f, records[f.Key])
	}
	delete(d.heard, id)
	return d.Decide(x)
}

// strays reports whether an endpoint that etcd has is here under another name.
func (d *Directory) strays(id identity.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.doubtfulLocked(id) && d.known.endpoints[id].revision > 0
}

// doubtfulLocked reports whether an endpoint has a name here that etcd has not given it, nor will be
// asked for.
func (d *Directory) doubtfulLocked(id identity.ID) bool {
	name := d.Name(id)
	_, owed := d.owed[id]
	return name != "" && !owed && d.known.endpoints[id].name != name
}
