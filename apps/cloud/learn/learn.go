// Package learn asks other endpoints what is published, and who holds what.
//
//	an endpoint offers another number, says that it has news, or somebody here asks for files
//	-> flow "cloud/index": pages -> index: each entry is verified -> rows, and who holds them
package learn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/tunnel/identity"
)

const (
	askTime  = 30 * time.Second // for the index of one peer
	asking   = 8                // peers that are asked at a time
	few      = 16               // peers that are asked even if the directory says that they have no news
	mostAsks = 400              // requests for one peer's index in a row
)

// Config says who asks.
type Config struct {
	Name  string // of the app
	Mesh  apps.Mesh
	Index *index.Index
	Log   *slog.Logger
}

// Learner asks. Make it with [New]. Its methods may be called from any goroutine.
type Learner struct {
	Config
	holders index.Holders // has the lock of Index

	mu    sync.Mutex
	peers map[identity.ID]*known // guarded by mu
}

// known is what is known of a peer's index.
type known struct {
	offer string // when it was asked last
	epoch string
	next  uint64
	seen  time.Time // when it was online last; guarded by mu of the Learner

	asking sync.Mutex // held while it is asked
}

// New returns a Learner, which knows of nobody yet.
func New(c Config) *Learner { return &Learner{Config: c, peers: map[identity.ID]*known{}} }

// Holders returns the endpoints that have told that they hold a file.
func (l *Learner) Holders(user, path string) []identity.ID {
	return l.Index.Holders(&l.holders, user, path)
}

// Forget forgets what all have told: who is asked again tells what it holds again.
func (l *Learner) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.peers)
}

// Offered returns the number that an endpoint offers, or "".
func Offered(name string, e apps.Endpoint) string {
	for _, o := range e.Offers {
		if n, ok := strings.CutPrefix(o, name+"/"); ok {
			return n
		}
	}
	return ""
}

// Others lists the endpoints that are online and have this app.
func (l *Learner) Others(ctx context.Context) ([]apps.Endpoint, error) {
	all, err := l.Mesh.Endpoints(ctx, apps.Filter{Online: true})
	var list []apps.Endpoint
	for _, e := range all {
		if !e.Local && Offered(l.Name, e) != "" {
			list = append(list, e)
		}
	}
	return list, err
}

// Refresh asks all endpoints that have changed. Where they are few it asks all, and those of a user
// whose files are meant in any case: the hub is told of changes a moment later. Those that do not
// answer are left out; their errors come back together.
func (l *Learner) Refresh(ctx context.Context, user string) error {
	list, err := l.Others(ctx)
	if err != nil {
		return err
	}
	l.saw(list)
	errs := make([]error, len(list))
	var asked sync.WaitGroup
	places := make(chan struct{}, asking)
	for i, e := range list {
		asked.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if err := l.Pull(ctx, e.ID, Offered(l.Name, e), len(list) <= few || e.User == user); err != nil {
				errs[i] = fmt.Errorf("%s: %w", e.Name, err)
			}
		})
	}
	asked.Wait()
	return errors.Join(errs...)
}

// forgetAfter is how long is known what an endpoint told that does not come back: in a mesh of endpoints
// that live for a minute there are many. One that comes back later tells everything again.
const forgetAfter = 24 * time.Hour

// saw notes that endpoints are online.
func (l *Learner) saw(list []apps.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range list {
		if k := l.peers[e.ID]; k != nil {
			k.seen = time.Now()
		}
	}
}

// peer returns what is known of a peer that is online, and makes room for it if it is new.
func (l *Learner) peer(id identity.ID) *known {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.peers[id]
	if k == nil {
		k = &known{}
		l.peers[id] = k
		l.Index.Forget(&l.holders, id)
		l.sweepLocked()
	}
	k.seen = time.Now()
	return k
}

// sweepLocked forgets the endpoints that do not come back.
func (l *Learner) sweepLocked() {
	for id, k := range l.peers {
		if !k.seen.IsZero() && time.Since(k.seen) > forgetAfter {
			delete(l.peers, id)
			l.Index.Forget(&l.holders, id)
		}
	}
}

// Pull asks a peer for what is new, unless its number is the one that it offered last time and it
// need not be asked in any case.
func (l *Learner) Pull(ctx context.Context, id identity.ID, offer string, anyway bool) error {
	k := l.peer(id)
	k.asking.Lock()
	defer k.asking.Unlock()
	if offer == k.offer && !anyway {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for range mostAsks {
		more, err := l.ask(ctx, id, k)
		if err != nil {
			return err
		}
		if !more {
			k.offer = offer
			return nil
		}
	}
	return errors.New("its index has no end")
}

// ask makes one request for the index of a peer.
func (l *Learner) ask(ctx context.Context, id identity.ID, k *known) (more bool, err error) {
	conn, err := l.Mesh.Open(ctx, id, l.Name+"/index", url.Values{"epoch": {k.epoch}, "since": {strconv.FormatUint(k.next, 10)}})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r := bufio.NewReaderSize(conn, 64<<10)
	for total := 0; ; {
		line, err := index.ReadLine(r, index.MaxPage)
		if err == io.EOF && total > 0 {
			return more, nil
		}
		if err != nil {
			return false, err
		}
		if total += len(line); total > index.MaxBytes+index.MaxPage {
			return false, errors.New("its index is too long")
		}
		page, err := index.ParsePage(line)
		if err != nil {
			return false, err
		}
		if err := l.takePage(id, k, page); err != nil {
			return false, err
		}
		more = page.More
	}
}

// takePage takes a page of a peer's index.
func (l *Learner) takePage(id identity.ID, k *known, page *index.Page) error {
	if page.Epoch != k.epoch {
		l.Index.Forget(&l.holders, id) // it begins anew
	} else if page.Next < k.next || page.More && page.Next == k.next {
		return errors.New("its index goes backwards")
	}
	_, refused, err := l.Index.Put(page.Signed())
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		l.Log.Debug("a peer told of files that are refused", "peer", id, "files", len(refused), "err", refused[0])
	}
	for _, t := range page.Entries {
		if e, err := entry.Read(t.Doc); err == nil {
			l.Index.Told(&l.holders, id, e, t.Held)
		}
	}
	k.epoch, k.next = page.Epoch, page.Next
	return nil
}
