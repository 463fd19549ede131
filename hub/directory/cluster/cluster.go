// Package cluster is the directory that several hubs share: etcd decides, and each hub serves from
// memory.
//
//	cluster.go   the directory: what is put is claimed first
//	keys.go      what is where in etcd
//	claim.go     transactions that say who has a name
//	memory.go    what this hub knows of etcd, by revision
//	hear.go      what other hubs tell while etcd is away
//	follow.go    reading all, and then each change; signs of life
//	trust.go     the trust list
//	tokens.go    join tokens that hubs redeem
//	begin.go     whose etcd this is; what a hub had before there was one
//
// Nothing that is read is believed. A record is verified as if an endpoint had sent it, and a list
// as if a peer had. Who can write to etcd can keep names from their owners and lie about nothing
// else. Who is online is not in etcd.
//
// Without etcd a hub goes on with what it knows, which is in its database too, and hears from other hubs
// of new endpoints. New names wait.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ztm/hub/directory"
	"ztm/store"
	"ztm/store/etcd"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
	"ztm/tunnel/unixtime"
)

// decideTime is how long an endpoint waits for what etcd decides, where Config says nothing else.
const decideTime = 2 * time.Second

// Config is what a directory needs. All is required but Timeout.
type Config struct {
	Client *etcd.Client
	Mesh   identity.ID
	Hub    identity.ID // this hub

	// Read reads a record, and verifies it.
	Read func(doc []byte) (identity.Record, identity.Subject, error)

	// Trust is the trust list that is in force at this hub.
	Trust Trust

	Limits directory.Limits
	Now    func() time.Time // by which names are kept
	Log    *slog.Logger

	Timeout time.Duration // of an endpoint, for what etcd decides; zero: 2 s
}

// Directory is a directory that several hubs share. Make it with [Open].
type Directory struct {
	*directory.Local
	c       Config
	db      *store.DB
	changed chan struct{} // holds a token when there is another trust list; never closed
	prefix  string

	restored bool // etcd was restored from a backup, and not all was told to it again; of follow alone

	mu     sync.Mutex
	known  memory
	owed   map[identity.ID]debt     // what etcd has not taken while it was away
	heard  map[identity.ID]struct{} // what another hub has told, and etcd may not have got
	closed bool
	joined bool // what is in the database came from etcd, or went there
	ready  bool // etcd was asked once whose it is
	status Status
}

var _ directory.Directory = (*Directory)(nil)

// debt is a change of an endpoint that is in force here, and which etcd has not got.
type debt struct {
	remove, keep bool // else its record is to be put
}

// Status is how a hub does with etcd.
type Status struct {
	Up      bool      // it answered when it was asked last
	Answer  time.Time // of the last sign of life
	Relists int       // how often all was read
	Refused int       // keys with values that are not good
	Owed    int       // changes that it has not got
}

// Open reads the copy of the directory in a hub's database. Etcd is asked by Run.
func Open(db *store.DB, c Config) (*Directory, error) {
	if c.Timeout == 0 {
		c.Timeout = decideTime
	}
	local, err := directory.Open(db, c.Limits, c.Now)
	if err != nil {
		return nil, err
	}
	d := &Directory{
		Local: local, c: c, db: db, changed: make(chan struct{}, 1), prefix: prefixOf(c.Mesh), known: newMemory(),
		owed: map[identity.ID]debt{}, heard: map[identity.ID]struct{}{},
	}
	err = db.View(func(tx *store.Tx) error {
		_, d.joined, err = joinedTable.Get(tx, string(c.Mesh))
		return err
	})
	return d, err
}

// Status returns how the hub does with etcd.
func (d *Directory) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status
	s.Owed = len(d.owed)
	return s
}

// AddMetrics adds what there is to say of the store.
func (d *Directory) AddMetrics(w *metric.Writer) {
	s := d.Status()
	up := int64(0)
	if s.Up {
		up = 1
	}
	w.Gauge("ztm_hub_store_up", "Whether the store of the hubs answers.", up)
	w.Gauge("ztm_hub_store_silent_seconds", "Time since the store answered.", int64(time.Since(s.Answer).Seconds()))
	w.Gauge("ztm_hub_store_owed", "Changes that the store has not got.", int64(s.Owed))
	w.Counter("ztm_hub_store_relists_total", "How often all of the store was read.", int64(s.Relists))
	w.Counter("ztm_hub_store_refused_total", "Keys of the store with values that are not good.", int64(s.Refused))
}

// Run implements [directory.Directory]: it follows etcd, too, and closes the client in the end.
func (d *Directory) Run(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { d.follow(ctx) })
	following.Go(func() {
		<-stop
		d.close()
		cancel()
	})
	d.Local.Run(stop)
	following.Wait()
	d.c.Client.Close()
}

func (d *Directory) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// errClosed is not for endpoints: they see a fault of the hub, and go to another.
var errClosed = errors.New("the hub is shutting down")

func (d *Directory) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	return nil
}

// Put implements [directory.Directory]. A record that says nothing new does not go to etcd, nor does
// one under the same name while etcd is away: that one goes there later.
func (d *Directory) Put(doc []byte, rec identity.Record, subject identity.Subject) error {
	if err := d.open(); err != nil {
		return err
	}
	if err := d.Admits(rec, subject); err != nil {
		return err
	}
	if d.has(rec) && d.Says(rec, subject) {
		return d.Local.Put(doc, rec, subject)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.c.Timeout)
	defer cancel()
	err := d.claim(ctx, directory.Endpoint{Doc: doc, Record: rec, Subject: subject})
	switch {
	case !away(err):
		return err
	case d.Name(subject.ID) != rec.Name && errors.Is(err, etcd.ErrUnknown):
		return answer.Errorf(answer.Timeout, "it is not known whether the endpoint has the name now: the store of the hubs does not answer")
	case d.Name(subject.ID) != rec.Name:
		return answer.Errorf(answer.Unavailable, "names cannot be decided now: the store of the hubs does not answer")
	}
	d.owe(subject.ID, debt{})
	return d.Local.Put(doc, rec, subject)
}

// has reports whether etcd has a record of an endpoint under its name, as far as is known.
func (d *Directory) has(rec identity.Record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known.endpoints[rec.ID].name == rec.Name && d.known.names[rec.Name].value.ID == rec.ID
}

// away reports whether etcd has not answered, or takes nothing.
func away(err error) bool {
	var e *etcd.Error
	return errors.Is(err, etcd.ErrUnavailable) || errors.Is(err, etcd.ErrUnknown) || errors.Is(err, errNotReady) || errors.As(err, &e)
}

// errNotReady is the answer while it is not known whose etcd this is.
var errNotReady = fmt.Errorf("cluster: %w: it was not asked whose it is", etcd.ErrUnavailable)

// owe notes what etcd has to be told once it is back.
func (d *Directory) owe(id identity.ID, what debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed[id] = what
}

// Remove implements [directory.Directory]. Endpoints are cut off here, whether etcd answers or not.
func (d *Directory) Remove(keep bool, which func(identity.Subject) bool) (removed int, err error) {
	if err := d.open(); err != nil {
		return 0, err
	}
	var ids []identity.ID
	removed, err = d.Local.Remove(keep, func(s identity.Subject) bool {
		match := which(s)
		if match {
			ids = append(ids, s.ID)
		}
		return match
	})
	if len(ids) == 0 {
		return removed, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.c.Timeout)
	defer cancel()
	for _, id := range ids {
		if failed := d.retire(ctx, id, keep); failed != nil {
			d.owe(id, debt{remove: true, keep: keep})
		}
	}
	return removed, err
}

// Left is for hubs that share no store: here etcd says who has left.
func (d *Directory) Left(identity.ID, unixtime.Millis, bool) {}
