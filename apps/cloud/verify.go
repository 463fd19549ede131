package cloud

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/note"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/tunnel/answer"
)

// saveList keeps the hashes of a file's blocks, so that it can be given to others.
func (a *App) saveList(k *index.Known, list blocks.List) error {
	if blocks.Count(k.Size) < 2 {
		return nil
	}
	return a.host.State.Save(listKey(k.Content().Hash), []byte(list))
}

// keepHere notes that a file with the content of a version stands here already.
func (a *App) keepHere(t *tree.Tree, k *index.Known, local *index.Local, list blocks.List) error {
	if err := a.saveList(k, list); err != nil {
		return err
	}
	return a.noter.Note(t, note.Entry{Here: index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.All, Local: local}})
}

// mostSuspects is how many files are looked into at a time. Others are when they are asked for again.
const mostSuspects = 4

// suspect looks into a file that is not what the index says, in the background: from then on it is
// not given to others. Until then a peer may ask for it as often as it likes: it is read once.
func (a *App) suspect(row index.Row) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.suspects[row.Name()] || len(a.suspects) >= mostSuspects {
		return
	}
	a.suspects[row.Name()] = true
	a.work.Go(func() {
		defer a.trust(row)
		if a.life.Err() != nil {
			return
		}
		if _, err := a.verify(a.life, row); err != nil {
			a.log().Debug("a file cannot be verified", "err", err)
		}
	})
}

// trust notes that a file was looked into.
func (a *App) trust(row index.Row) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.suspects, row.Name())
}

// verify reads a file that is here, and says what it is: still the version that was written or
// published, edited since, or damaged. What is not the version is not offered any longer.
func (a *App) verify(ctx context.Context, row index.Row) (state.State, error) {
	k, err := a.index.Get(row.User, row.Path)
	if err != nil || k == nil || k.Deleted || k.Held != index.All && k.Local != nil {
		return state.Missing, err
	}
	t, err := a.local()
	if err != nil {
		return state.Missing, err
	}
	if err := ctx.Err(); err != nil {
		return state.Missing, err
	}
	c, list, info, err := t.Sum(k.User, k.Path)
	is := state.Synced
	switch {
	case errors.Is(err, fs.ErrNotExist):
		is = state.Missing
	case errors.Is(err, tree.ErrChanging):
		is = state.Changed
	case err != nil:
		return state.Unreadable, err
	case c == k.Content():
		a.problems.Forget(row.Name())
		if k.Local != nil && k.Local.Changed == info.ModTime().UnixNano() {
			return state.Synced, nil
		}
		return state.Synced, a.keepHere(t, k, localOf(info, c), list)
	case k.Local != nil && k.Local.Changed == info.ModTime().UnixNano():
		is = state.Damaged
		a.problems.Damaged(row.Name())
	default:
		is = state.Changed
	}
	if k.Held != index.All {
		return is, nil
	}
	return is, a.noter.Note(t, note.Entry{Here: index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.None, Local: k.Local}})
}

// notBrought reports whether a file stands here of which nothing was noted.
func (a *App) notBrought(t *tree.Tree, r index.Row) bool {
	if _, err := look(t, r); err != nil {
		return false
	}
	k, err := a.index.Get(r.User, r.Path)
	return err == nil && k != nil && k.Local == nil
}

// verifyAll verifies all files that are here at or below a path, also those that this endpoint has not
// brought here: what is the version that is published is held from then on. Those that are damaged are
// fetched again where somebody has them.
func (a *App) verifyAll(ctx context.Context, user, path string) (list []File, err error) {
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	var repair []index.Row
	a.each(user, path, func(r index.Row) {
		if err != nil || r.Deleted || r.Held != index.All && !a.notBrought(t, r) {
			return
		}
		var is state.State
		if is, err = a.verify(ctx, r); is == state.Damaged {
			repair = append(repair, r)
		}
		if is != state.Synced {
			f := a.file(t, r)
			f.State = is
			list = append(list, f)
		}
	})
	if err == nil && len(repair) > 0 {
		_, err = a.loads.Start(repair, nil)
	}
	return list, err
}

// erase removes this endpoint's copies of files. The last copy of a content is removed only where that
// is forced.
func (a *App) erase(name string, force, dry bool) (results []Result, err error) {
	user, path, err := a.split(name)
	if err != nil {
		return nil, err
	}
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	var rows []index.Row
	last := ""
	a.each(user, path, func(r index.Row) {
		if _, err := look(t, r); err != nil {
			return
		}
		if m := a.mirrorOf(r, func(m *mirroring) bool { return m.Download && !m.Selective && !r.Deleted }); m != nil && err == nil {
			err = answer.Errorf(answer.BadRequest, "the mirror %s would fetch %s again: leave it out there, or end the mirror", m.name, r.Name())
		}
		rows = append(rows, r)
		if a.only(t, r) {
			last = r.Name()
		}
		results = append(results, Result{Path: r.Name()})
	})
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, answer.Errorf(answer.NotFound, "there is no copy of %s here", name)
	case last != "" && !force:
		return nil, answer.Errorf(answer.Conflict, "no other endpoint is known to have %s: this is the last copy", last)
	case dry:
		return results, nil
	}
	for i, r := range slices.Backward(rows) { // what is in a directory before the directory
		if err := a.eraseFile(t, r); err != nil {
			results[i].Error = state.Explain(err)
		}
	}
	return results, nil
}

// only reports whether nobody else is known to have what is here of a file: it was edited since, it is
// published no longer, or there is no other holder.
func (a *App) only(t *tree.Tree, r index.Row) bool {
	if r.IsDir() {
		return false // there is nothing in it that could be lost
	}
	if is, _ := a.state(t, r); r.Deleted || is == state.Changed {
		return true
	}
	return r.Held == index.All && len(a.learner.Holders(r.User, r.Path)) == 0
}

func (a *App) eraseFile(t *tree.Tree, r index.Row) error {
	k, err := a.index.Get(r.User, r.Path)
	if err != nil || k == nil {
		return err
	}
	if err := a.noter.Note(t, note.Entry{Here: index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.None}}); err != nil {
		return err
	}
	if r.IsDir() {
		return t.Rmdir(r.User, r.Path)
	}
	return t.Remove(r.User, r.Path)
}
