package file

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Config states what users other than the endpoint's own may do. The zero value is nothing.
type Config struct {
	Allow []Grant `json:"allow,omitempty"` // sorted by path
	Inbox Inbox   `json:"inbox,omitzero"`
}

// Grant lets users at a directory with all below it, or at a file.
type Grant struct {
	Path  apps.Bytes `json:"path"`  // absolute, without links
	Users []string   `json:"users"` // see [apps.CheckWho]; sorted
	Write bool       `json:"write,omitempty"`
}

// Inbox is where `ztm file send` puts what comes, in a directory of the sender's name.
type Inbox struct {
	Dir   apps.Bytes `json:"dir,omitempty"`   // absolute; "" is the default
	Users []string   `json:"users,omitempty"` // who may offer something, beside the endpoint's own user, see [apps.CheckWho]
	Quota int64      `json:"quota,omitempty"` // bytes that it has of each of them at most; 0 is the default, less is no limit
}

// Change changes a [Config]; what is nil or empty stays as it is.
type Change struct {
	Allow       *Grant      `json:"allow,omitempty"`  // replaces the grant of that path
	Remove      *apps.Bytes `json:"remove,omitempty"` // removes the grant of that path
	InboxDir    *apps.Bytes `json:"inboxDir,omitempty"`
	InboxQuota  *int64      `json:"inboxQuota,omitempty"`
	AddUsers    []string    `json:"addUsers,omitempty"` // to the inbox
	RemoveUsers []string    `json:"removeUsers,omitempty"`
}

const maxGrants = 256

// check makes the configuration what is saved, or says what is wrong with it.
func (c *Config) check() error {
	for i, g := range c.Allow {
		if !filepath.IsAbs(string(g.Path)) || filepath.Clean(string(g.Path)) != string(g.Path) {
			return answer.Errorf(answer.BadRequest, "the path is not absolute: %v", g.Path)
		}
		var err error
		if c.Allow[i].Users, err = users(g.Users); err != nil {
			return err
		}
		if len(c.Allow[i].Users) == 0 {
			return answer.Errorf(answer.BadRequest, "no user for %v", g.Path)
		}
	}
	if len(c.Allow) > maxGrants {
		return answer.Errorf(answer.BadRequest, "more than %d paths", maxGrants)
	}
	if c.Inbox.Dir != "" && !filepath.IsAbs(string(c.Inbox.Dir)) {
		return answer.Errorf(answer.BadRequest, "the directory of the inbox is not absolute: %v", c.Inbox.Dir)
	}
	var err error
	c.Inbox.Users, err = users(c.Inbox.Users)
	return err
}

// users checks and sorts the terms of a rule.
func users(names []string) ([]string, error) {
	if err := apps.CheckWho(names); err != nil {
		return nil, err
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// apply makes a change.
func (c *Config) apply(change Change) error {
	if change.Allow != nil {
		g := *change.Allow
		real, err := filepath.EvalSymlinks(expand(string(g.Path)))
		if err != nil {
			return answer.Errorf(answer.NotFound, "%v: not found", g.Path)
		}
		g.Path = apps.Bytes(real)
		c.remove(g.Path)
		c.Allow = append(c.Allow, g)
		slices.SortFunc(c.Allow, func(a, b Grant) int { return strings.Compare(string(a.Path), string(b.Path)) })
	}
	if change.Remove != nil {
		before := len(c.Allow)
		c.remove(apps.Bytes(expand(string(*change.Remove))))
		if real, err := filepath.EvalSymlinks(expand(string(*change.Remove))); err == nil {
			c.remove(apps.Bytes(real))
		}
		if len(c.Allow) == before {
			return answer.Errorf(answer.NotFound, "nobody was allowed at %v", *change.Remove)
		}
	}
	if change.InboxDir != nil {
		if c.Inbox.Dir = *change.InboxDir; c.Inbox.Dir != "" {
			c.Inbox.Dir = apps.Bytes(expand(string(c.Inbox.Dir)))
		}
	}
	if change.InboxQuota != nil {
		c.Inbox.Quota = *change.InboxQuota
	}
	var err error
	c.Inbox.Users, err = apps.Changed("user", c.Inbox.Users, change.AddUsers, change.RemoveUsers)
	return err
}

func (c *Config) remove(path apps.Bytes) {
	c.Allow = slices.DeleteFunc(c.Allow, func(g Grant) bool { return g.Path == path })
}

// grant returns the grant by which somebody may reach a clean absolute path, and what of the path is
// below it. named says whether a list of users means them. The longest path counts, and no other: a grant within another one narrows it.
func (c Config) grant(named func([]string) bool, path string, write bool) (g Grant, below string, ok bool) {
	for _, one := range c.Allow {
		root := string(one.Path)
		rest, under := strings.CutPrefix(path, strings.TrimSuffix(root, string(filepath.Separator))+string(filepath.Separator))
		if path == root {
			rest, under = "", true
		}
		if under && len(root) >= len(g.Path) {
			g, below = one, rest
		}
	}
	ok = g.Path != "" && named(g.Users) && (g.Write || !write)
	return g, below, ok
}

// whole reports whether somebody may reach a path with all that is below it: no grant there narrows it.
func (c Config) whole(named func([]string) bool, path string, write bool) bool {
	for _, one := range c.Allow {
		if rest, err := filepath.Rel(path, string(one.Path)); err != nil || !filepath.IsLocal(rest) {
			continue
		}
		if _, _, ok := c.grant(named, string(one.Path), write); !ok {
			return false
		}
	}
	_, _, ok := c.grant(named, path, write)
	return ok
}

// alias reports whether a path has another spelling by which a grant within it, or above it, denies
// it: file systems that fold case know a directory by many names. deep asks for all below the path.
func (c Config) alias(named func([]string) bool, path string, write, deep bool) bool {
	if len(c.Allow) < 2 {
		return false
	}
	above := lineage(path)
	for _, one := range c.Allow {
		if named(one.Users) && (one.Write || !write) {
			continue
		}
		info, err := os.Lstat(string(one.Path))
		if err != nil {
			continue // nothing has that name, in any spelling
		}
		// A grant that is above in these letters, too, was judged by them.
		if at := position(above, info); at >= 0 && len(above[at].path) > len(c.nearest(path)) {
			return true
		}
		if deep && len(above) > 0 && above[0].path == path && position(lineage(string(one.Path)), above[0].info) >= 0 {
			return true
		}
	}
	return false
}

// nearest returns the path of the grant that counts for a path, by its letters.
func (c Config) nearest(path string) string {
	g, _, _ := c.grant(func([]string) bool { return true }, path, false)
	return string(g.Path)
}

// step is a directory on the way to a path.
type step struct {
	path string
	info fs.FileInfo
}

// lineage lists what there is of a path and the directories above it, the nearest first.
func lineage(path string) (steps []step) {
	for {
		if info, err := os.Lstat(path); err == nil {
			steps = append(steps, step{path, info})
		}
		up := filepath.Dir(path)
		if up == path {
			return steps
		}
		path = up
	}
}

// position returns which of the steps is a file; -1 is none.
func position(steps []step, info fs.FileInfo) int {
	return slices.IndexFunc(steps, func(s step) bool { return os.SameFile(s.info, info) })
}

// dir returns the directory of the inbox.
func (i Inbox) dir() string {
	if i.Dir != "" {
		return string(i.Dir)
	}
	return expand("~/ztm-inbox")
}

// expand makes a path absolute: one that is not is below the home directory, and so is "~".
func expand(path string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = string(filepath.Separator)
	}
	rest, ok := strings.CutPrefix(path, "~")
	switch {
	case ok && (rest == "" || os.IsPathSeparator(rest[0])):
		return filepath.Join(home, rest)
	case filepath.IsAbs(path):
		return filepath.Clean(path)
	}
	return filepath.Join(home, path)
}
