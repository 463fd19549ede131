package cloud

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/note"
	"ztm/apps/cloud/tree"
)

// A directory is published where nothing is in it: by mirrors alone, as what is in one brings it along.
// Its entry says that it is there. Whatever becomes of the entry, nothing that is in the directory
// goes or changes with it: a directory is made, or removed while it is empty, and that is all.

// look looks at what a row is of, a directory or a file. Something of the other kind is an error.
func look(t *tree.Tree, r index.Row) (fs.FileInfo, error) {
	if r.IsDir() {
		return t.StatDir(r.User, r.Path)
	}
	return t.Stat(r.User, r.Path)
}

// wasDir reports whether it was a directory when it was last in step here.
func wasDir(k *index.Known) bool {
	return k.Local != nil && bytes.Equal(k.Local.Hash, blocks.Directory.Hash[:])
}

// dirHere is [App.here] for a directory.
func (a *App) dirHere(t *tree.Tree, k *index.Known) (edited, there bool, err error) {
	if info, err := t.StatDir(k.User, k.Path); err == nil {
		return false, true, a.keepHere(t, k, localOf(info, blocks.Directory), nil)
	}
	info, err := t.Stat(k.User, k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	return err == nil && !ours(k, info), false, err
}

// makeDir makes a directory. A file that stands there goes aside where somebody edited it, or to the trash.
func (a *App) makeDir(t *tree.Tree, k *index.Known, edited bool) (aside string, err error) {
	err = a.noter.Note(t, note.Entry{Here: index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.All},
		Commit: func(durable bool) (_ *index.Local, err error) {
			if aside, err = a.makeWay(t, k, edited); err != nil {
				return nil, err
			}
			if err := t.Mkdir(k.User, k.Path, durable); err != nil {
				return nil, err
			}
			info, err := t.StatDir(k.User, k.Path)
			if err != nil {
				return nil, err
			}
			return localOf(info, blocks.Directory), nil
		}})
	return aside, err
}

// makeWay moves away the file that stands where a directory belongs.
func (a *App) makeWay(t *tree.Tree, k *index.Known, edited bool) (aside string, err error) {
	if _, err := t.Stat(k.User, k.Path); err != nil {
		return "", nil // there is none: Mkdir says what else is there
	}
	p, err := t.Create(k.User, k.Path, "")
	if err != nil {
		return "", err
	}
	defer p.Discard()
	if now := p.Before(); now != nil && !edited && !ours(k, now) {
		edited = true // meanwhile
	}
	aside, err = a.clear(p, k, edited)
	if err == nil && p.Replaces() { // there is no trash
		err = t.Remove(k.User, k.Path)
	}
	return aside, err
}

// clearDir removes the empty directory that a file takes the place of. One with something in it stays,
// and keeps the file out.
func clearDir(t *tree.Tree, k *index.Known) {
	if wasDir(k) {
		t.Rmdir(k.User, k.Path) // whether it is gone is seen by who looks next
	}
}

// Prune removes a directory in which nothing is left and that nobody has published, and reports whether it did.
func (a mirrored) Prune(user, path string) bool {
	k, err := a.index.Get(user, path)
	if err != nil || k != nil && !k.Deleted && k.IsDir() {
		return false
	}
	t, err := a.local()
	return err == nil && t.Rmdir(user, path) == nil
}

// discardDir removes a directory that was deleted elsewhere, if it is empty. What is in it stays, and
// so does the directory, which nobody has published then.
func (a mirrored) discardDir(t *tree.Tree, k *index.Known) error {
	if err := t.Rmdir(k.User, k.Path); err != nil {
		a.log().Debug("a directory that was deleted elsewhere stays", "path", NameOf(k.User, k.Path), "err", err)
	}
	return a.forget(t, k)
}

// contentOf names a content as mirrors know it.
func contentOf(hash []byte) mirror.Content {
	if bytes.Equal(hash, blocks.Directory.Hash[:]) {
		return mirror.Directory
	}
	return mirror.Content(hex.EncodeToString(hash))
}
