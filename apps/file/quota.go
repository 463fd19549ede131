package file

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"ztm/apps"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// defaultQuota is how many bytes the inbox has of each other user at most, unless it is set.
const defaultQuota = 10_000_000_000

// quota returns how many bytes of each other user there may be; false: no limit.
func (i Inbox) quota() (int64, bool) {
	if i.Quota == 0 {
		return defaultQuota, true
	}
	return i.Quota, i.Quota > 0
}

// claims is what users have offered and not yet brought, or been refused. The zero value is empty.
type claims struct {
	mu sync.Mutex
	of map[string]*claimed // by user, while they have any; guarded by mu
}

// claimed is the room of one user while offers of theirs are open. What comes meanwhile is of these
// offers, so it is not looked for in the inbox: it would count twice.
type claimed struct {
	look   sync.Once // into the inbox, which takes a while: the lock is not held
	err    error     // of that
	there  int64     // bytes in the inbox when the first of the offers came, and of those that have ended
	coming int64     // bytes of those that are open; guarded by claims.mu, as there is from the look on
	open   int       // guarded by claims.mu
}

// claim keeps room in the inbox for what a user offers, until release is called: while somebody is
// asked, and while it comes. came says whether any of it may have come. The own user has as much as
// the disk.
func (a *App) claim(i Inbox, p apps.Peer, items []Item) (release func(came bool), err error) {
	most, limited := i.quota()
	if !limited || p.User == a.host.Mesh.Self().User {
		return func(bool) {}, nil
	}
	var offered int64
	for _, item := range items {
		offered += item.Size
	}
	c := &a.claims
	of := c.enter(p.User)
	of.look.Do(func() { of.there, of.err = bytesOf(i.dir(), p.User) })
	if err := a.take(of, p, offered, most); err != nil {
		c.release(p.User, 0, false)
		return nil, err
	}
	return func(came bool) { c.release(p.User, offered, came) }, nil
}

// take adds to the room that a user has taken, where there is so much.
func (a *App) take(of *claimed, p apps.Peer, offered, most int64) error {
	if of.err != nil {
		return of.err
	}
	a.claims.mu.Lock()
	defer a.claims.mu.Unlock()
	if offered > most-of.there-of.coming {
		self := a.host.Mesh.Self().Name
		return answer.Errorf(answer.Limit, "the inbox of %s takes %d bytes of user %q; %d are there, %d on their way, and these are %d. Its owner can make room, or allow more: ztm ep %s file inbox --quota SIZE",
			self, most, p.User, of.there, of.coming, offered, self)
	}
	of.coming += offered
	return nil
}

// enter begins an offer, which release ends.
func (c *claims) enter(user string) *claimed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]*claimed{}
	}
	of := c.of[user]
	if of == nil {
		of = &claimed{}
		c.of[user] = of
	}
	of.open++
	return of
}

func (c *claims) release(user string, bytes int64, came bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of[user]
	of.coming -= bytes
	if came {
		of.there += bytes
	}
	if of.open--; of.open == 0 {
		delete(c.of, user)
	}
}

// bytesOf returns how many bytes of a user the inbox has. What was broken off is not among them: it
// goes when the next offer comes that does not go on with it.
func bytesOf(dir, user string) (sum int64, err error) {
	in, err := inboxOf(dir, user, (*rooted.Dir).At)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, outward(filepath.Base(dir), err)
	}
	defer in.Close()
	err = in.Walk(func(_ *rooted.Dir, _ rooted.Name, _ rooted.Path, info fs.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil // what cannot be read is not counted
	})
	return sum, err
}
