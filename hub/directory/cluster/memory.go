package cluster

import (
	"ztm/hub/directory"
	"ztm/store/etcd"
	"ztm/tunnel/identity"
)

// memory is what a hub knows of etcd. What is there is known with the revision of its last change.
type memory struct {
	names     map[string]nameState
	endpoints map[identity.ID]epState
	until     int64 // all changes up to this revision are in it
}

type nameState struct {
	revision int64
	value    holder
	bad      bool // the value is not one
}

type epState struct {
	revision int64
	name     string // by its record; "" if that is not good
	user     string
}

func newMemory() memory {
	return memory{names: map[string]nameState{}, endpoints: map[identity.ID]epState{}}
}

// fact is a key as etcd has it at some revision.
type fact struct {
	etcd.KV
	deleted bool
}

// absorb takes facts into memory and puts what follows from them in force. It returns how to wait
// until that is on disk. Records are verified before the lock is taken.
func (d *Directory) absorb(facts []fact, until int64) (saved func() error) {
	records := d.verify(facts)
	d.mu.Lock()
	defer d.mu.Unlock()
	var x directory.Decision
	for _, f := range facts {
		if name, _ := d.parse(f.Key); name != "" && d.freshLocked(f, d.known.names[name].revision) {
			d.nameLocked(&x, name, f)
		}
	}
	for _, f := range facts {
		if _, id := d.parse(f.Key); id != "" && d.freshLocked(f, d.known.endpoints[id].revision) {
			d.endpointLocked(&x, id, f, records[f.Key])
		}
	}
	d.known.until = max(d.known.until, until)
	return d.Decide(x)
}

// freshLocked reports whether a fact is newer than what is known of its key.
func (d *Directory) freshLocked(f fact, known int64) bool {
	if f.deleted && f.Revision == 0 { // it is not there, and etcd does not say since when
		return known > 0
	}
	return f.Revision > known && f.Revision > d.known.until
}

// verify reads the records among some facts. Those that are not good are missing.
func (d *Directory) verify(facts []fact) map[string]directory.Endpoint {
	good := map[string]directory.Endpoint{}
	for _, f := range facts {
		_, id := d.parse(f.Key)
		if id == "" || f.deleted {
			continue
		}
		rec, subject, err := d.c.Read(f.Value)
		if err == nil && subject.ID == id && rec.ID == id {
			good[f.Key] = directory.Endpoint{Doc: f.Value, Record: rec, Subject: subject}
		}
	}
	return good
}

func (d *Directory) nameLocked(x *directory.Decision, name string, f fact) {
	if f.deleted {
		delete(d.known.names, name)
		x.Freed = append(x.Freed, name)
		return
	}
	h, ok := parseHolder(f.Value)
	if !ok {
		d.status.Refused++
	}
	d.known.names[name] = nameState{f.Revision, h, !ok}
	if ok && h.User != "" {
		if x.Kept == nil {
			x.Kept = map[string]directory.Kept{}
		}
		x.Kept[name] = directory.Kept{User: h.User, Until: h.Until.Time()}
	}
}

// endpointLocked takes a record that its endpoint has signed, under the name that etcd has given it.
func (d *Directory) endpointLocked(x *directory.Decision, id identity.ID, f fact, e directory.Endpoint) {
	if f.deleted {
		delete(d.known.endpoints, id)
		x.Gone = append(x.Gone, id)
		return
	}
	state := epState{revision: f.Revision}
	if e.Doc != nil && d.known.names[e.Record.Name].value.ID == id {
		state.name, state.user = e.Record.Name, e.Subject.User
		if debt, owed := d.owed[id]; !owed || !debt.remove {
			x.Puts = append(x.Puts, e)
		}
	} else {
		d.status.Refused++
	}
	d.known.endpoints[id] = state
}

// replace puts all that etcd has in the place of what was known, at once. Endpoints that etcd has not
// got are gone, but for those that are spared.
func (d *Directory) replace(facts []fact, until int64, spared func(identity.ID) bool) (saved func() error) {
	records := d.verify(facts)
	here := map[identity.ID]bool{}
	d.Each(func(e directory.Endpoint, _ bool) { here[e.Subject.ID] = true })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = newMemory()
	clear(d.heard)
	var x directory.Decision
	for _, f := range facts {
		if name, _ := d.parse(f.Key); name != "" {
			d.nameLocked(&x, name, f)
		}
	}
	for _, f := range facts {
		if _, id := d.parse(f.Key); id != "" {
			d.endpointLocked(&x, id, f, records[f.Key])
		}
	}
	for id := range here {
		if d.known.endpoints[id].name == "" && !spared(id) {
			x.Gone = append(x.Gone, id)
		}
	}
	d.EachKept(func(name string, _ directory.Kept) {
		if d.known.names[name].value.User == "" {
			x.Freed = append(x.Freed, name)
		}
	})
	d.known.until = until
	d.status.Relists++
	return d.Decide(x)
}
