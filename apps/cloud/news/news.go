// Package news says in the mesh that there is something new: to the hub a number, from time to time, and to
// those who may read it that they should ask, at once.
package news

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/tunnel/identity"
)

// Config says what is told, and to whom.
type Config struct {
	Name   string // of the app
	Index  *index.Index
	Host   apps.Host
	Others func(context.Context) ([]apps.Endpoint, error) // that are online and have the app
	Reader func(apps.Peer) entry.Reader
}

// News tells others. Make it with [New].
type News struct {
	Config
	published chan struct{} // has one where readers are to be told; capacity 1

	mu   sync.Mutex
	told map[identity.ID]told // guarded by mu
}

// New returns a News, which tells nothing yet.
func New(c Config) *News {
	return &News{Config: c, published: make(chan struct{}, 1), told: map[identity.ID]told{}}
}

// busy is how long changes are collected before peers hear of them.
const busy = 200 * time.Millisecond

// offerPause is how long the hub is left in peace between two numbers: each is a record that it
// verifies and writes. Whoever may read what is new is told of it by a flow, and at once.
const offerPause = 2 * time.Second

// offering is the number of the index that the hub has.
type offering struct {
	seq  uint64
	when time.Time
}

// offer offers the number of the index. later tells when it is time for one that has to wait.
func (n *News) offer(last *offering) (later <-chan time.Time) {
	_, seq := n.Index.Position()
	wait := offerPause - time.Since(last.when)
	switch {
	case seq == last.seq:
		return nil
	case wait > 0:
		return time.After(wait)
	}
	*last = offering{seq, time.Now()}
	n.Host.Offer([]string{strconv.FormatUint(seq, 10)})
	return nil
}

// Run offers the number of the index, and tells peers when there is something for them, until ctx
// ends.
func (n *News) Run(ctx context.Context) {
	var last offering
	var retry <-chan time.Time
	wait := firstRetry
	for {
		changed := n.Index.Changed()
		later := n.offer(&last)
		select {
		case <-n.published:
			if retry = nil; n.tell(ctx) {
				wait = firstRetry
			} else {
				retry, wait = time.After(wait), min(2*wait, lastRetry)
			}
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-later:
		case <-retry:
			n.Again()
		case <-n.published:
			n.Again()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(busy):
		}
	}
}

// Again has readers told of news.
func (n *News) Again() {
	select {
	case n.published <- struct{}{}:
	default:
	}
}

// telling is how many peers are told at a time.
const telling = 8

// How long it takes until those who were not reached are told again.
const (
	firstRetry = 2 * time.Second
	lastRetry  = time.Minute
)

// tell says to the endpoints that may read what has changed that there is news. It reports whether it
// has reached all.
func (n *News) tell(ctx context.Context) bool {
	list, err := n.Others(ctx)
	if err != nil {
		n.Host.Log.Debug("nobody is told of news", "err", err)
		return false
	}
	n.forget(list)
	_, now := n.Index.Position()
	var all sync.WaitGroup
	var missed atomic.Bool
	places := make(chan struct{}, telling)
	for _, e := range list {
		if !n.news(e, now) {
			continue
		}
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, tellTime)
			defer cancel()
			conn, err := n.Host.Mesh.Open(ctx, e.ID, n.Name+"/changed", nil)
			if err != nil {
				n.missed(e.ID)
				missed.Store(true)
				return
			}
			conn.Close()
		})
	}
	all.Wait()
	return !missed.Load()
}

// told is up to where a peer was told that there is news, and what it could read then.
type told struct {
	seq  uint64
	view string
}

// news reports whether an endpoint may read something that it was not told of, and notes that it is
// told now.
func (n *News) news(e apps.Endpoint, now uint64) bool {
	who := n.Reader(apps.Peer{ID: e.ID, User: e.User})
	view := n.Index.View(who)
	n.mu.Lock()
	before := n.told[e.ID]
	n.told[e.ID] = told{now, view}
	n.mu.Unlock()
	if before.view != view {
		before.seq = 0
	}
	return n.Index.News(who, before.seq)
}

// missed notes that an endpoint did not hear what it was to be told.
func (n *News) missed(id identity.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.told, id)
}

// forget forgets what was told to endpoints that are not online: they are told again when they are back.
func (n *News) forget(online []apps.Endpoint) {
	is := map[identity.ID]bool{}
	for _, e := range online {
		is[e.ID] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.told, func(id identity.ID, _ told) bool { return !is[id] })
}

// tellTime is how long a peer may take to hear that there is news.
const tellTime = 4 * time.Second
