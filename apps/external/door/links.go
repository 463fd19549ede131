package door

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"sync"
	"time"

	"ztm/apps/external/contract"
)

// keptFor is how long a connection is kept for the next request. Servers wait for longer, so it is
// seldom that one ends it at the moment at which it is used again.
const keptFor = 2 * time.Second

// link is a connection to a program.
type link struct {
	net.Conn
	in   *bufio.Reader
	head *io.LimitedReader // below in
	used bool              // it has carried a request
}

func newLink(c net.Conn) *link {
	l := &link{Conn: c}
	l.in, l.head = contract.Limited(c)
	return l
}

// links keeps a connection to each program for a moment, for the next request of the same caller. A
// connection never carries requests of two: a program that answers too much answers who asked it.
//
// A program may take one connection after the other. It would wait for the next request on the one
// that is kept while somebody else waits for it. So none is kept while an answer is awaited on another,
// and whoever comes uses the one that is kept, or ends it. The zero value is ready.
type links struct {
	most time.Duration // for which one is kept; 0 is keptFor

	mu  sync.Mutex
	all map[string]*kept // by app; guarded by mu
}

// kept is what [links] knows of an app.
type kept struct {
	waiting int // flows whose answer has not begun
	idle    *link
	caller  contract.Caller // of idle
	late    *time.Timer     // ends idle
}

// enter begins a flow, and returns the connection that was kept for its caller, or nil. The flow calls
// answered.
func (k *links) enter(app string, c contract.Caller) *link {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.ofLocked(app)
	a.waiting++
	l, mine := a.takeLocked(), a.caller == c
	if l != nil && !(mine && quiet(l.Conn)) {
		l.Close()
		l = nil
	}
	return l
}

// answered says that the answer to a flow has begun, or will not.
func (k *links) answered(app string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[app].waiting--
	k.forgetLocked(app)
}

// keep keeps a connection on which an answer has ended. Where it may not, the connection is closed.
func (k *links) keep(app string, c contract.Caller, l *link) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.ofLocked(app)
	if a.waiting > 0 || a.idle != nil {
		l.Close()
		return
	}
	l.used = true
	a.idle, a.caller = l, c
	a.late = time.AfterFunc(cmp.Or(k.most, keptFor), func() { k.end(app, l) })
}

// ofLocked returns what is known of an app, which is remembered from then on.
func (k *links) ofLocked(app string) *kept {
	a := k.all[app]
	if a == nil {
		if k.all == nil {
			k.all = map[string]*kept{}
		}
		a = &kept{}
		k.all[app] = a
	}
	return a
}

// end closes a connection that nobody has used in time.
func (k *links) end(app string, l *link) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.all[app]; a != nil && a.idle == l {
		a.takeLocked().Close()
		k.forgetLocked(app)
	}
}

// close closes all connections that are kept.
func (k *links) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for app, a := range k.all {
		if l := a.takeLocked(); l != nil {
			l.Close()
			k.forgetLocked(app)
		}
	}
}

func (k *links) forgetLocked(app string) {
	if a := k.all[app]; a.waiting == 0 && a.idle == nil {
		delete(k.all, app)
	}
}

// takeLocked returns the connection that is kept, or nil, and keeps it no longer.
func (a *kept) takeLocked() *link {
	l := a.idle
	if l != nil {
		a.late.Stop()
		a.idle = nil
	}
	return l
}
