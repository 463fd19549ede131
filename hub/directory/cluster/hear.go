package cluster

import (
	"ztm/hub/directory"
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
	return "", d.Decide(directory.Decision{Puts: []directory.Endpoint{e}})
}
