package cluster

import (
	"bytes"
	"context"

	"ztm/hub/directory"
	"ztm/store/etcd"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// mostTries is how often a transaction is made anew because somebody else was first.
const mostTries = 8

// claim has etcd decide that an endpoint has a name, and a record. What is known may be old, so a
// refusal is only given by what was read just now.
func (d *Directory) claim(ctx context.Context, e directory.Endpoint) error {
	if !d.isReady() {
		return errNotReady
	}
	var last error
	read := false // the name and its holder, since what is known has changed
	for range mostTries {
		txn, err := d.planClaim(e)
		if err != nil && read {
			return err
		}
		if err != nil {
			if err := d.refresh(ctx, e); err != nil {
				return err
			}
			last, read = err, true
			continue
		}
		r, err := d.c.Client.Txn(ctx, txn)
		if err != nil {
			return err
		}
		if r.Done || d.mine(r, e) {
			d.settled(e, txn, r)
			return nil
		}
		d.absorb(found(r.Found), 0) // which says who has the name, and not who that is
		read = false
	}
	if last != nil {
		return last
	}
	return answer.Errorf(answer.Unavailable, "endpoint name %s is wanted by many at this moment: try again", e.Record.Name)
}

// planClaim returns the transaction that gives an endpoint its name, by what is known: the name is
// free, or its own, or kept for its user. The old name, if there is one, is kept for the user.
func (d *Directory) planClaim(e directory.Endpoint) (etcd.Txn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, id := e.Record.Name, e.Subject.ID
	n, ep := d.known.names[name], d.known.endpoints[id]
	if err := d.mayHaveLocked(n, e); err != nil {
		return etcd.Txn{}, err
	}
	txn := etcd.Txn{
		If:   []etcd.Condition{{Key: d.nameKey(name), Revision: n.revision}, {Key: d.epKey(id), Revision: ep.revision}},
		Then: []etcd.Op{etcd.Put(d.epKey(id), e.Doc, 0)},
	}
	if n.value.ID != id {
		txn.Then = append(txn.Then, etcd.Put(d.nameKey(name), holder{ID: id}.bytes(), 0))
	}
	if old := d.known.names[ep.name]; ep.name != "" && ep.name != name && old.value.ID == id {
		txn.If = append(txn.If, etcd.Condition{Key: d.nameKey(ep.name), Revision: old.revision})
		txn.Then = append(txn.Then, etcd.Put(d.nameKey(ep.name), d.keptFor(e.Subject.User).bytes(), 0))
	}
	return txn, nil
}

func (d *Directory) mayHaveLocked(n nameState, e directory.Endpoint) error {
	name := e.Record.Name
	switch {
	case n.bad:
		return answer.Errorf(answer.Conflict, "endpoint name %s cannot be given: what the store says of it is not understood", name)
	case n.value.ID != "" && n.value.ID != e.Subject.ID:
		if err := d.Check(name, e.Subject.ID).Check(name, e.Subject.User); err != nil {
			return err
		}
		return answer.Errorf(answer.Conflict, "endpoint name %s is taken by endpoint %s", name, n.value.ID)
	case n.value.User != "" && n.value.Until > unixtime.Of(d.c.Now()):
		return (&tunnel.NameCheck{KeptFor: n.value.User}).Check(name, e.Subject.User)
	}
	return nil
}

// keptFor is the value of a name that becomes free now.
func (d *Directory) keptFor(user string) holder {
	return holder{User: user, Until: unixtime.Of(d.c.Now().Add(d.c.Limits.NameKept))}
}

// refresh reads who has the name that an endpoint wants, and the record of who has it.
func (d *Directory) refresh(ctx context.Context, e directory.Endpoint) error {
	name := d.nameKey(e.Record.Name)
	got, err := d.c.Client.Read(ctx, name, d.epKey(e.Subject.ID))
	if err != nil {
		return err
	}
	if h, ok := parseHolder(got[name].Value); ok && h.ID != "" && h.ID != e.Subject.ID {
		if got, err = d.c.Client.Read(ctx, name, d.epKey(e.Subject.ID), d.epKey(h.ID)); err != nil {
			return err
		}
	}
	d.absorb(found(got), 0)
	return nil
}

// found returns the facts that were read together.
func found(read map[string]etcd.KV) (facts []fact) {
	for _, kv := range read {
		facts = append(facts, fact{kv, kv.Revision == 0})
	}
	return facts
}

// mine reports whether what a transaction has found is what it was to do: an answer got lost.
func (d *Directory) mine(r etcd.Result, e directory.Endpoint) bool {
	h, ok := parseHolder(r.Found[d.nameKey(e.Record.Name)].Value)
	return ok && h.ID == e.Subject.ID && bytes.Equal(r.Found[d.epKey(e.Subject.ID)].Value, e.Doc)
}

// settled puts in force what a transaction has done.
func (d *Directory) settled(e directory.Endpoint, txn etcd.Txn, r etcd.Result) {
	facts := found(r.Found)
	if r.Done {
		facts = done(txn, r.Revision)
	}
	saved := d.absorb(facts, 0)
	if err := saved(); err != nil { // etcd has it, and so do other hubs
		d.c.Log.Warn("the copy of the directory cannot be saved", "err", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.owed, e.Subject.ID)
}

// done returns the facts that a transaction has made.
func done(txn etcd.Txn, revision int64) (facts []fact) {
	for _, op := range txn.Then {
		key, value, put := op.Change()
		facts = append(facts, fact{etcd.KV{Key: key, Value: value, Revision: revision}, !put})
	}
	return facts
}

// retire has etcd forget an endpoint. Its name is kept for its user, or free.
func (d *Directory) retire(ctx context.Context, id identity.ID, keep bool) error {
	if !d.isReady() {
		return errNotReady
	}
	for range mostTries {
		txn, there := d.planRetire(id, keep)
		if !there {
			return nil
		}
		r, err := d.c.Client.Txn(ctx, txn)
		if err != nil {
			return err
		}
		if r.Done {
			d.absorb(done(txn, r.Revision), 0)
			return nil
		}
		d.absorb(found(r.Found), 0)
	}
	return errNotReady
}

func (d *Directory) planRetire(id identity.ID, keep bool) (txn etcd.Txn, there bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ep := d.known.endpoints[id]
	if ep.revision == 0 {
		return txn, false
	}
	txn = etcd.Txn{If: []etcd.Condition{{Key: d.epKey(id), Revision: ep.revision}}, Then: []etcd.Op{etcd.Delete(d.epKey(id))}}
	n := d.known.names[ep.name]
	if ep.name == "" || n.value.ID != id {
		return txn, true
	}
	txn.If = append(txn.If, etcd.Condition{Key: d.nameKey(ep.name), Revision: n.revision})
	if keep && ep.user != "" {
		txn.Then = append(txn.Then, etcd.Put(d.nameKey(ep.name), d.keptFor(ep.user).bytes(), 0))
	} else {
		txn.Then = append(txn.Then, etcd.Delete(d.nameKey(ep.name)))
	}
	return txn, true
}
