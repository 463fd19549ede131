package cloud

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/tunnel/answer"
)

// ShareChange is a change of who may read what is at or below a path.
type ShareChange struct {
	Path   string   `json:"path"`
	All    *bool    `json:"all,omitempty"`    // each member of the mesh
	Add    []string `json:"add,omitempty"`    // users, and groups as "group:NAME"
	Remove []string `json:"remove,omitempty"` // the same
}

// String says what is to change, for the audit log.
func (c ShareChange) String() string {
	var b strings.Builder
	b.WriteString(c.Path + ":")
	if c.All != nil {
		fmt.Fprintf(&b, " all %t", *c.All)
	}
	for _, u := range c.Remove {
		b.WriteString(" -" + u)
	}
	for _, u := range c.Add {
		b.WriteString(" +" + u)
	}
	return b.String()
}

// Apply returns the readers after the change.
func (c ShareChange) Apply(r entry.Readers) entry.Readers {
	if c.All != nil {
		r.All = *c.All
	}
	return r.With(c.Add, c.Remove)
}

// share changes who may read files, from their next version on, which it makes. Access that is taken
// away ends at once here, and as soon as they hear of it at other holders. Copies that were made
// stay.
//
// The rule for files to come is changed first: what is published meanwhile has the new readers. A
// change that is refused leaves the rule as it was.
func (a *App) share(c ShareChange) ([]Result, error) {
	path, err := a.own(c.Path)
	if err != nil {
		return nil, err
	}
	a.sharing.Lock()
	defer a.sharing.Unlock()
	undo, later, err := a.changeRule(path, c)
	if err != nil {
		return nil, err
	}
	results, now, err := a.shareFiles(path, c)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	if !now && !later && len(c.Remove) > 0 {
		return nil, answer.Errorf(answer.NotFound, "nothing at %s is shared with %s", c.Path, strings.Join(c.Remove, ", "))
	}
	return results, nil
}

// shareFiles changes who may read the files that are published at or below a path. changes reports
// whether that differs for any.
func (a *App) shareFiles(path string, c ShareChange) (results []Result, changes bool, err error) {
	self := a.author()
	var list []index.Published
	a.each(self.User, path, func(r index.Row) {
		if r.Deleted || err != nil {
			return
		}
		var p *index.Published
		if p, err = a.shared(r, c); p != nil {
			list = append(list, *p)
		}
		results = append(results, Result{Path: r.Name()})
	})
	if err != nil {
		return nil, false, err
	}
	if err := a.index.Publish(self, list); err != nil {
		return nil, false, err
	}
	a.host.Cut(func(p apps.Peer, path string) bool {
		return path == "blocks" && p.User != self.User && lostAny(list, a.reader(p))
	})
	a.news.Again()
	return results, len(list) > 0, nil
}

// shared makes the next version of a file, with other readers; nil where they are those that it has.
func (a *App) shared(r index.Row, c ShareChange) (*index.Published, error) {
	known, err := a.index.Get(r.User, r.Path)
	if err != nil || known == nil {
		return nil, err
	}
	e := known.Entry
	e.Readers = c.Apply(e.Readers)
	if e.Readers.Equal(known.Readers) {
		return nil, nil
	}
	return &index.Published{Entry: e, Local: known.Local, Held: known.Held, Lost: entry.Lost(known.Readers, e.Readers)}, nil
}

func lostAny(list []index.Published, who entry.Reader) bool {
	return slices.ContainsFunc(list, func(p index.Published) bool { return p.Lost.May(who) })
}

// changeRule changes the rule of a directory, for files that are to come. undo puts the one before
// back, and changes reports whether they differ. A file has none.
func (a *App) changeRule(path string, c ShareChange) (undo func() error, changes bool, err error) {
	before, err := a.rules.Of(path)
	if err != nil {
		return nil, false, err
	}
	readers := c.Apply(before)
	if err := readers.Check(); err != nil {
		return nil, false, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if a.isFile(path) {
		return func() error { return nil }, false, nil
	}
	undo, err = a.rules.Set(path, readers)
	return undo, !readers.Equal(before), err
}

// isFile reports whether what is published at or below a path is a file of that name, and no more.
func (a *App) isFile(path string) bool {
	user, is, others := a.author().User, false, false
	a.each(user, path, func(r index.Row) {
		is = is || !r.Deleted && r.Path == path
		others = others || !r.Deleted && r.Path != path
	})
	return is && !others
}
