package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"ztm/hub/directory"
	"ztm/store/etcd"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
)

// Times of following etcd.
const (
	beatTime    = 2 * time.Second  // between signs of life
	leaseTime   = 10 * time.Second // of live/ID
	compareTime = time.Minute      // between comparisons with etcd, and up to a quarter more
	sweepTime   = time.Hour        // between removals of tokens that have expired, and up to a quarter more
	retryTime   = time.Second      // after something has failed, and up to as much more
)

// follow keeps memory equal to etcd until ctx ends.
func (d *Directory) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := d.round(ctx)
		if ctx.Err() != nil {
			return
		}
		d.down(err)
		pause.For(ctx, retryTime/2+rand.N(retryTime))
	}
}

// round reads all, and then each change, until there is a doubt whether anything was missed. Whether
// etcd was restored is known until all was done that follows from it: etcd that comes back may fail
// again.
func (d *Directory) round(ctx context.Context) (err error) {
	defer func() { d.restored = d.restored || errors.Is(err, etcd.ErrRestored) }()
	if err := d.Begin(ctx); err != nil {
		return err
	}
	if d.restored {
		if err := d.markRestored(ctx); err != nil {
			return err
		}
	}
	if err := d.agreeOrFork(ctx); err != nil { // evictions come before the records of who was evicted
		return err
	}
	if err := d.relist(ctx); err != nil {
		return err
	}
	d.restored = false
	d.up()
	d.pay(ctx)
	return d.stay(ctx)
}

func (d *Directory) up() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.status.Up {
		d.c.Log.Info("the store of the hubs answers", "endpoint", d.c.Client.Endpoint())
	}
	d.status.Up, d.status.Answer = true, time.Now()
}

func (d *Directory) down(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.status.Up || d.status.Answer.IsZero() {
		d.c.Log.Warn("the store of the hubs cannot be followed: new names wait", "err", err)
		d.status.Answer = time.Now()
	}
	d.status.Up = false
}

// relist reads all and puts it in the place of what is known, which is not emptied first. Where etcd
// was restored from a backup, endpoints that are attached here are told to it again.
func (d *Directory) relist(ctx context.Context) error {
	var facts []fact
	var revision int64
	for _, part := range []string{epPart, namePart} {
		at, err := d.c.Client.List(ctx, d.prefix+part, revision, func(kv etcd.KV) { facts = append(facts, fact{KV: kv}) })
		if err != nil {
			return err
		}
		revision = at
	}
	d.mu.Lock()
	joined := d.joined
	d.mu.Unlock()
	spared := map[identity.ID]bool{}
	d.Each(func(e directory.Endpoint, attached bool) {
		if !joined && !e.Copy || d.restored && attached {
			spared[e.Subject.ID] = true
		}
	})
	d.mu.Lock()
	for id := range spared {
		if _, owed := d.owed[id]; !owed {
			d.owed[id] = debt{}
		}
	}
	for id, owed := range d.owed {
		spared[id] = !owed.remove
	}
	d.mu.Unlock()
	saved := d.replace(facts, revision, func(id identity.ID) bool { return spared[id] })
	if err := saved(); err != nil {
		d.c.Log.Warn("the copy of the directory cannot be saved", "err", err)
	}
	return d.join()
}

// pay tells etcd what it did not hear while it was away.
func (d *Directory) pay(ctx context.Context) {
	d.mu.Lock()
	owed := make(map[identity.ID]debt, len(d.owed))
	for id, what := range d.owed {
		owed[id] = what
	}
	d.mu.Unlock()
	if len(owed) == 0 {
		return
	}
	records := map[identity.ID]directory.Endpoint{}
	d.Each(func(e directory.Endpoint, _ bool) { records[e.Subject.ID] = e })
	for id, what := range owed {
		var err error
		e, there := records[id]
		switch {
		case what.remove:
			err = d.retire(ctx, id, what.keep)
		case there:
			err = d.repay(ctx, e)
		}
		if !away(err) {
			d.mu.Lock()
			delete(d.owed, id)
			d.mu.Unlock()
		}
	}
}

// repay puts a record that was taken while etcd was away. If another endpoint has the name by now,
// this one is cut off, and hears of it when it comes back.
func (d *Directory) repay(ctx context.Context, e directory.Endpoint) error {
	err := d.claim(ctx, e)
	if err != nil && !away(err) {
		d.c.Log.Warn("an endpoint has lost its name while the store was away", "endpoint", e.Subject.ID, "name", e.Record.Name, "err", err)
		d.Decide(directory.Decision{Gone: []identity.ID{e.Subject.ID}})
	}
	return err
}

// stay watches, and gives signs of life, until something may have been missed.
func (d *Directory) stay(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	beating := make(chan struct{})
	go func() { // awaited below
		defer close(beating)
		cancel(d.beat(ctx))
	}()
	err := d.watch(ctx)
	cancel(err)
	<-beating
	return context.Cause(ctx)
}

// watch goes on at another endpoint when one gives no sign of life.
func (d *Directory) watch(ctx context.Context) error {
	wait := 50 * time.Millisecond
	for {
		before := d.until()
		err := d.c.Client.Watch(ctx, d.prefix, before, func(events []etcd.Event, until int64) { d.happened(ctx, events, until) })
		if ctx.Err() != nil || errors.Is(err, etcd.ErrCompacted) || errors.Is(err, etcd.ErrRestored) {
			return err
		}
		if d.until() > before {
			wait = 50 * time.Millisecond
		}
		pause.For(ctx, wait/2+rand.N(wait))
		wait = min(2*wait, retryTime)
	}
}

func (d *Directory) until() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known.until
}

// happened takes what the watch tells.
func (d *Directory) happened(ctx context.Context, events []etcd.Event, until int64) {
	var facts []fact
	trust := false
	for _, e := range events {
		facts = append(facts, fact{e.KV, e.Deleted})
		trust = trust || e.Key == d.prefix+headKey
	}
	saved := d.absorb(facts, until)
	if err := saved(); err != nil {
		d.c.Log.Warn("the copy of the directory cannot be saved", "err", err)
	}
	if trust {
		if err := d.agreeOrFork(ctx); err != nil {
			d.c.Log.Warn("the trust list of the store cannot be read", "err", err)
			d.Changed() // beat comes back to it
		}
	}
}

// beat gives a sign of life for this hub every few seconds, and compares what is known with etcd
// every minute: a watch can lose changes. It returns an error when something was missed.
func (d *Directory) beat(ctx context.Context) error {
	tick := time.NewTicker(beatTime)
	defer tick.Stop()
	next, sweep := time.Now().Add(jittered(compareTime)), time.Now().Add(jittered(sweepTime))
	var lease int64
	for {
		var err error
		if lease, err = d.live(ctx, lease); err == nil {
			d.up()
			d.pay(ctx)
		} else if ctx.Err() == nil {
			d.down(err)
			next = time.Now() // what was missed is looked for as soon as etcd is back
		}
		if err == nil && time.Now().After(next) {
			switch err := d.compare(ctx); {
			case errors.Is(err, errMissed):
				return err
			case err == nil: // else it is done with the next sign of life
				next = time.Now().Add(jittered(compareTime))
			}
		}
		if err == nil && time.Now().After(sweep) {
			sweep = time.Now().Add(jittered(sweepTime))
			d.sweep(ctx)
		}
		select {
		case <-ctx.Done():
			d.leave(lease)
			return context.Cause(ctx)
		case <-d.changed:
			if d.agreeOrFork(ctx) != nil {
				next = time.Now() // compare does it again
			}
		case <-tick.C:
		}
	}
}

func jittered(d time.Duration) time.Duration { return d + rand.N(d/4) }

// live keeps live/ID while the hub lives. It returns the lease on which that hangs.
func (d *Directory) live(ctx context.Context, lease int64) (int64, error) {
	if lease != 0 {
		alive, err := d.c.Client.KeepAlive(ctx, lease)
		if err != nil || alive {
			return lease, err
		}
	}
	lease, err := d.c.Client.Grant(ctx, leaseTime)
	if err != nil {
		return 0, err
	}
	key := d.prefix + livePart + string(d.c.Hub)
	was, err := d.c.Client.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	_, err = d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: key, Revision: was.Revision}}, Then: []etcd.Op{etcd.Put(key, nil, lease)}})
	return lease, err
}

// leave ends the lease at the end of the hub.
func (d *Directory) leave(lease int64) {
	if lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d.c.Client.Revoke(ctx, lease) // else it ends by itself
}

// errMissed says that etcd has something else than what is known.
var errMissed = errors.New("cluster: a change was missed")

// compare asks for the number of keys and whether any has changed since the last change that is
// known. What differs may be on its way, so it is asked twice. It returns [errMissed] if a change was
// missed; after any other error it is not known.
func (d *Directory) compare(ctx context.Context) error {
	if err := d.agreeOrFork(ctx); err != nil {
		return err
	}
	for range 2 {
		told := d.told()
		same, err := d.same(ctx)
		if err != nil {
			return err
		}
		if same {
			return d.disown(ctx, told)
		}
		pause.For(ctx, beatTime)
	}
	return errMissed
}

func (d *Directory) same(ctx context.Context) (bool, error) {
	until := d.until()
	names, changed, err := d.c.Client.Changed(ctx, d.prefix+namePart, until)
	if err != nil {
		return false, err
	}
	eps, also, err := d.c.Client.Changed(ctx, d.prefix+epPart, until)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !changed && !also && int(names) == len(d.known.names) && int(eps) == len(d.known.endpoints), nil
}
