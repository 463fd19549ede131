package cloud

import (
	"context"
	"errors"

	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/note"
	"ztm/apps/cloud/tree"
	"ztm/apps/rooted"
)

// mirrored is the app as its mirrors see it.
type mirrored struct {
	*App
	rate *fetch.Rate // that it fetches at
}

var _ mirror.Cloud = mirrored{}

func (a mirrored) Changed() <-chan struct{} { return a.index.Changed() }

// Refresh asks; who does not answer now says so later.
func (a mirrored) Refresh(ctx context.Context, user string) { a.learner.Refresh(ctx, user) }

func (a mirrored) Root(user, path string) (*rooted.Dir, error) {
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	return t.Root(user, path, false)
}

func (a mirrored) Known(user, path string) (list []mirror.Published, err error) {
	a.each(user, path, func(r index.Row) {
		k, kerr := a.index.Get(r.User, r.Path)
		if kerr != nil {
			err = kerr
		} else if k != nil {
			list = append(list, publishedOf(k))
		}
	})
	return list, err
}

func publishedOf(k *index.Known) mirror.Published {
	p := mirror.Published{Path: k.Path, Deleted: k.Deleted, Order: mirror.Unknown}
	if !k.Deleted {
		p.Shared = contentOf(k.Hash)
	}
	if k.Local == nil {
		return p
	}
	p.Local, p.Size, p.Changed, p.Last = true, k.Local.Size, k.Local.Changed, contentOf(k.Local.Hash)
	p.Exec, p.WasExec = k.Exec, k.Local.Exec
	switch entry.Compare(k.Local.Vector, k.Vector) {
	case entry.Equal:
		p.Order = mirror.Same
	case entry.Before:
		p.Order = mirror.Newer
	case entry.After:
		p.Order = mirror.Older
	default:
		p.Order = mirror.Apart
	}
	return p
}

func (a mirrored) Sum(user, path string) (mirror.Content, int64, error) {
	t, err := a.local()
	if err != nil {
		return "", 0, err
	}
	c, _, info, err := t.Sum(user, path)
	if err != nil {
		return "", 0, err
	}
	return contentOf(c.Hash[:]), localOf(info, c).Changed, nil
}

func (a mirrored) Publish(ctx context.Context, paths []string) error {
	results, err := a.publish(ctx, paths, nil)
	for _, r := range results {
		if r.Error != "" {
			a.problems.Note(r.Path, errors.New(r.Error))
		}
		if r.Warning != "" {
			a.log().Warn("a file was published", "path", r.Path, "warning", r.Warning)
		}
	}
	return err
}

func (a mirrored) Unpublish(path string) error {
	_, err := a.unpublish(path, false, false)
	return err
}

func (a mirrored) Fetch(ctx context.Context, user string, paths []string) error {
	wanted := map[string]bool{}
	for _, path := range paths {
		wanted[path] = true
	}
	var rows []index.Row
	a.index.Each(func(r *index.Row) bool { return r.User == user && wanted[r.Path] }, func(r index.Row) bool {
		rows = append(rows, r)
		return true
	})
	d, err := a.loads.Start(rows, a.rate)
	if err != nil {
		return err
	}
	select {
	case <-d.Ended():
	case <-ctx.Done():
		d.Stop()
	}
	if p := d.Progress(); len(p.Failed) > 0 && ctx.Err() == nil {
		return errors.New(p.Failed[0].Error) // each is among the problems
	}
	return nil
}

func (a mirrored) Adopt(user, path string) error {
	k, err := a.index.Get(user, path)
	if err != nil || k == nil {
		return err
	}
	t, err := a.local()
	if err != nil {
		return err
	}
	if k.Deleted {
		return a.forget(t, k)
	}
	_, _, err = a.here(t, k)
	return err
}

// forget notes that nothing of a file is here.
func (a mirrored) forget(t *tree.Tree, k *index.Known) error {
	return a.noter.Note(t, note.Entry{Here: index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.None}})
}

func (a mirrored) Discard(user, path string) error {
	k, err := a.index.Get(user, path)
	if err != nil || k == nil || !k.Deleted {
		return err // published again meanwhile
	}
	t, err := a.local()
	if err == nil && wasDir(k) {
		return a.discardDir(t, k)
	}
	if err == nil {
		err = t.Trash(user, path, a.now())
	}
	if err != nil {
		return err
	}
	return a.forget(t, k)
}

func (a mirrored) Mend(user, path string) error {
	k, err := a.index.Get(user, path)
	if err != nil || k == nil || k.Deleted {
		return err
	}
	t, err := a.local()
	if err != nil {
		return err
	}
	if err := a.forget(t, k); err != nil { // first: a file that is only gone would be taken for deleted
		return err
	}
	return t.Trash(user, path, a.now())
}

func (a mirrored) Note(user, path string, err error) { a.problems.Note(NameOf(user, path), err) }

func (a mirrored) Damaged(user, path string) { a.problems.Damaged(NameOf(user, path)) }
