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
const defaultQuota = 10 << 30

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
	of map[string]int64 // bytes of each user; guarded by mu
}

// claim keeps room in the inbox for what a user offers, until release is called: while somebody is
// asked, and while it comes. The own user has as much as the disk.
func (a *App) claim(i Inbox, p apps.Peer, items []Item) (release func(), err error) {
	self := a.host.Mesh.Self()
	most, limited := i.quota()
	if !limited || p.User == self.User {
		return func() {}, nil
	}
	var offered int64
	for _, item := range items {
		offered += item.Size
	}
	there, err := bytesOf(i.dir(), p.User)
	if err != nil {
		return nil, err
	}
	c := &a.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if coming := c.of[p.User]; offered > most-there-coming {
		return nil, answer.Errorf(answer.Limit, "the inbox of %s takes %d bytes of user %q; %d are there, %d on their way, and these are %d. Its owner can make room, or allow more: ztm ep %s file inbox --quota SIZE",
			self.Name, most, p.User, there, coming, offered, self.Name)
	}
	if c.of == nil {
		c.of = map[string]int64{}
	}
	c.of[p.User] += offered
	return func() { c.release(p.User, offered) }, nil
}

func (c *claims) release(user string, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[user] -= bytes; c.of[user] == 0 {
		delete(c.of, user)
	}
}

// bytesOf returns how many bytes of a user the inbox has.
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
