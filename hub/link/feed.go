package link

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// feed is what one other hub is yet to be told. It holds what has changed, not how: the state of
// the moment is told, so a hub that reads slowly costs no more than a set of IDs.
type feed struct {
	some  chan struct{} // holds a token when there is something to tell; never closed
	ended chan struct{} // closed by end
	once  sync.Once

	mu sync.Mutex
	news
}

// news are what is to be told.
type news struct {
	changed map[identity.ID]struct{} // endpoints
	holders map[identity.ID]struct{} // endpoints that hold a name which the other hub gave away
	hubs    map[identity.ID]struct{}
	trust   bool
}

// left is an endpoint that was removed from the directory.
type left struct {
	time unixtime.Millis // of its record
	keep bool            // its name is kept
	at   time.Time
}

func newFeed() *feed {
	f := &feed{some: make(chan struct{}, 1), ended: make(chan struct{})}
	f.clearLocked()
	return f
}

func (f *feed) clearLocked() {
	f.news = news{map[identity.ID]struct{}{}, map[identity.ID]struct{}{}, map[identity.ID]struct{}{}, false}
}

func (f *feed) end() { f.once.Do(func() { close(f.ended) }) }

func (f *feed) tell(note func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	note()
	select {
	case f.some <- struct{}{}:
	default:
	}
}

func (f *feed) tellEndpoint(id identity.ID) { f.tell(func() { f.changed[id] = struct{}{} }) }
func (f *feed) tellHolder(id identity.ID)   { f.tell(func() { f.holders[id] = struct{}{} }) }
func (f *feed) tellHub(id identity.ID)      { f.tell(func() { f.hubs[id] = struct{}{} }) }
func (f *feed) tellTrust()                  { f.tell(func() { f.trust = true }) }

// take returns what is to be told, and forgets it.
func (f *feed) take() news {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.news
	f.clearLocked()
	return t
}

// Endpoint says that an endpoint attached to this hub, detached from it, or has another record.
func (l *Links) Endpoint(id identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.feeds {
		f.tellEndpoint(id)
	}
}

// Holds tells a hub that an endpoint holds a name which that hub gave to another.
func (l *Links) Holds(to, holder identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.feeds[to]; f != nil {
		f.tellHolder(holder)
	}
}

// Left says that an endpoint was removed from the directory, for other hubs to remove it as well.
// time is that of its record: a newer one makes it a member of the directory again.
func (l *Links) Left(id identity.ID, recorded unixtime.Millis, keep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.left) >= mostLeft {
		for other := range l.left {
			delete(l.left, other)
			break
		}
	}
	for other, gone := range l.left {
		if now.Sub(gone.at) > leftTime {
			delete(l.left, other)
		}
	}
	l.left[id] = left{recorded, keep, now}
	for _, f := range l.feeds {
		f.tellEndpoint(id)
	}
}

// Gone reports whether an endpoint has left since its record was made.
func (l *Links) Gone(id identity.ID, recorded unixtime.Millis) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone, ok := l.left[id]
	return ok && recorded <= gone.time
}

// subscribe makes the feed of a hub. An older one of it ends.
func (l *Links) subscribe(id identity.ID) (f *feed, end func()) {
	f = newFeed()
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.feeds[id]; old != nil {
		old.end()
	}
	l.feeds[id] = f
	f.trust = true
	for other := range l.hubs { // also its own record: see outdo
		f.hubs[other] = struct{}{}
	}
	for gone := range l.left {
		f.changed[gone] = struct{}{}
	}
	f.hubs[l.own.ID] = struct{}{}
	f.some <- struct{}{}
	return f, func() {
		f.end()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.feeds[id] == f {
			delete(l.feeds, id)
		}
	}
}

// teller writes the events of a feed.
type teller struct {
	l   *Links
	rc  *http.ResponseController
	enc *json.Encoder
	err error
}

func (t *teller) tell(e tunnel.LinkEvent) {
	if t.err == nil {
		t.err = t.enc.Encode(&e)
	}
}

// flush brings what was told on its way, and gives the next part time.
func (t *teller) flush() {
	if t.err == nil {
		t.err = t.rc.Flush()
	}
	t.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
}

// snapshot tells of all endpoints that are attached to this hub.
func (t *teller) snapshot() {
	ids := t.l.c.Host.Attached()
	t.tell(tunnel.LinkEvent{Type: tunnel.LinkSnapshot, N: len(ids)})
	for i, id := range ids {
		if a, ok := t.l.c.Host.Attachment(id); ok {
			t.up(id, a)
		}
		if i%tunnel.PageSize == 0 {
			t.flush()
		}
	}
	t.tell(tunnel.LinkEvent{Type: tunnel.LinkEnd})
	t.flush()
}

func (t *teller) up(id identity.ID, a Attachment) {
	t.tell(tunnel.LinkEvent{
		Type: tunnel.LinkUp, ID: id, Since: a.Since, Instance: a.Instance, Address: a.Address, Attach: a.Attach, Time: a.Time,
	})
}

// news tells what a feed holds.
func (t *teller) news(f news) {
	for id := range f.changed {
		t.endpoint(id)
	}
	for id := range f.holders {
		t.tell(tunnel.LinkEvent{Type: tunnel.LinkRecord, ID: id})
	}
	for id := range f.hubs {
		if doc := t.l.record(id); doc != nil {
			t.tell(tunnel.LinkEvent{Type: tunnel.LinkHub, Hub: doc})
		}
	}
	if f.trust {
		head := t.l.c.Verifier.Trust().Head()
		t.tell(tunnel.LinkEvent{Type: tunnel.LinkTrust, Version: head.Version, Sum: head.Sum})
	}
	t.flush()
}

func (t *teller) endpoint(id identity.ID) {
	if a, ok := t.l.c.Host.Attachment(id); ok {
		t.up(id, a)
		return
	}
	t.l.mu.Lock()
	gone, ok := t.l.left[id]
	t.l.mu.Unlock()
	if ok {
		t.tell(tunnel.LinkEvent{Type: tunnel.LinkLeft, ID: id, Time: gone.time, Keep: gone.keep})
	} else {
		t.tell(tunnel.LinkEvent{Type: tunnel.LinkDown, ID: id})
	}
}

// record returns the signed record of a hub, this one included; nil if there is none.
func (l *Links) record(id identity.ID) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == l.own.ID {
		return l.ownDoc
	}
	if h := l.hubs[id]; h != nil {
		return h.doc
	}
	return nil
}
