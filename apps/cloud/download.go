package cloud

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/load"
	"ztm/apps/cloud/note"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The way of a file that is fetched:
//
//	what is in the local directory: the same already? adopt it
//	-> temporary file, with what an earlier attempt left -> fetch from all holders -> verified
//	-> what somebody edited here goes aside -> its name, on disk -> the index says that it is here

// begin begins a download, for which it is asked once who is online.
func (a *App) begin(ctx context.Context, rate *fetch.Rate) load.Fetch {
	online := a.online(ctx)
	return func(ctx context.Context, row index.Row, progress func(fetch.Progress), came func()) (aside string, err error) {
		for range attempts {
			aside, err = a.fetchFile(ctx, row, online, fetch.Want{Rate: rate, Progress: progress}, came)
			if aside != "" || !errors.Is(err, rooted.ErrChanged) {
				break
			}
		}
		return aside, err
	}
}

// attempts is how often a file is fetched whose place somebody changes meanwhile. What has come is
// there already.
const attempts = 3

// online returns the endpoints that are online.
func (a *App) online(ctx context.Context) map[identity.ID]bool {
	list, err := a.learner.Others(ctx)
	if err != nil {
		a.log().Debug("it is not known who is online", "err", err)
	}
	on := map[identity.ID]bool{}
	for _, e := range list {
		on[e.ID] = true
	}
	return on
}

// fetchFile fetches one file, unless it is there; w says how, and came is called when it has come.
// aside is the name that an edited file got that stood in its place.
func (a *App) fetchFile(ctx context.Context, row index.Row, online map[identity.ID]bool, w fetch.Want, came func()) (aside string, err error) {
	known, err := a.index.Get(row.User, row.Path)
	if err != nil {
		return "", err
	}
	if known == nil || known.Deleted {
		return "", answer.Errorf(answer.NotFound, "%s is not published any longer", row.Name())
	}
	t, err := a.local()
	if err != nil {
		return "", err
	}
	defer func() { a.problems.Note(row.Name(), err) }()
	edited, there, err := a.here(t, known)
	if err != nil || there {
		return "", err
	}
	if known.IsDir() {
		came()
		return a.makeDir(t, known, edited)
	}
	if w.Sources = a.sources(row, online); len(w.Sources) == 0 {
		return "", answer.Errorf(answer.Unavailable, "no endpoint that is online has %s", row.Name())
	}
	if err := t.Room(row.Name(), row.Size); err != nil {
		return "", err
	}
	release, err := a.claim(row)
	if err != nil {
		return "", err
	}
	defer release()
	p, err := t.Create(row.User, row.Path, hex.EncodeToString(known.Hash))
	if err != nil {
		return "", err
	}
	defer p.Keep()
	if err := a.fill(ctx, t, p, known, w); err != nil {
		return "", a.diskFull(t, row, err)
	}
	if err := p.Again(); err != nil {
		return "", err
	}
	if now := p.Before(); now != nil && !edited && !ours(known, now) { // meanwhile
		if edited, there, err = a.here(t, known); err != nil || there {
			p.Discard()
			return "", err
		}
	}
	came()
	err = a.commit(t, p, known, func() (err error) {
		aside, err = a.clear(p, known, edited)
		return err
	})
	return aside, err
}

// clear moves away what stands where a file belongs. aside is the name that it got, unless it went to
// the trash.
func (a *App) clear(p *tree.Pending, k *index.Known, edited bool) (aside string, err error) {
	switch {
	case edited:
		return p.SetAside(a.host.Mesh.Self().Name, a.now())
	case k.Local != nil && len(k.Local.Vector) > 0 && entry.Compare(k.Local.Vector, k.Vector) == entry.Concurrent:
		// All who have the version that lost give it the same name.
		return p.SetAside(hex.EncodeToString(k.Local.Hash[:4]), time.Unix(0, k.Local.Changed))
	}
	return "", p.Trash(k.User, k.Path, a.now())
}

// claim keeps room for a file in what its user may have here.
func (a *App) claim(row index.Row) (release func(), err error) {
	c, err := a.settings.Get()
	if err != nil || c.Quota == 0 || row.User == a.author().User {
		return func() {}, err
	}
	return a.index.Claim(row, c.Quota)
}

// sources returns the endpoints that have told that they hold a file, and are online.
func (a *App) sources(row index.Row, online map[identity.ID]bool) (ids []identity.ID) {
	for _, id := range a.learner.Holders(row.User, row.Path) {
		if online[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// diskFull says of an error of writing how much room there is.
func (a *App) diskFull(t *tree.Tree, row index.Row, err error) error {
	if errors.As(err, new(*fs.PathError)) {
		if full := t.Room(row.Name(), row.Size); full != nil {
			return full
		}
	}
	return err
}

// here looks at what stands where a file belongs. there: it has the content already, and the index
// says so now. edited: it is somebody's work, and no version that was ever published.
func (a *App) here(t *tree.Tree, k *index.Known) (edited, there bool, err error) {
	if k.IsDir() {
		return a.dirHere(t, k)
	}
	clearDir(t, k)
	info, err := t.Stat(k.User, k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	ours := ours(k, info)
	if ours && k.Held == index.All && slices.Equal(k.Local.Hash, k.Hash) && k.Local.Exec == executable(info) &&
		entry.Compare(k.Local.Vector, k.Vector) == entry.Equal {
		return false, true, nil
	}
	c, list, info, err := t.Sum(k.User, k.Path)
	if err != nil {
		return false, false, err
	}
	if c == k.Content() {
		local := localOf(info, c)
		if local.Exec, err = a.setMode(t, k, info); err != nil {
			return false, false, err
		}
		return false, true, a.keepHere(t, k, local, list)
	}
	// What has another hash than when it was written here, at the same time and size, is damaged.
	return !ours, false, nil
}

// ours reports whether a file looks as it did when it was last written or published here.
func ours(k *index.Known, info fs.FileInfo) bool {
	return k.Local != nil && wasDir(k) == info.IsDir() && (info.IsDir() || k.Local.Size == info.Size() && k.Local.Changed == info.ModTime().UnixNano())
}

// fill fetches the content of a file into its temporary file.
func (a *App) fill(ctx context.Context, t *tree.Tree, p *tree.Pending, k *index.Known, w fetch.Want) error {
	st, err := p.Stat()
	if err != nil {
		return err
	}
	w.Name, w.Content, w.File, w.Left = k.Name(), k.Content(), target(p), st.Size()
	if p.Replaces() {
		if old, info, err := t.Open(k.User, k.Path); err == nil {
			defer old.Close()
			w.Old, w.OldSize = old, info.Size()
		}
	}
	list, err := a.fetcher.Fetch(ctx, w)
	if errors.Is(err, fetch.ErrNoSource) {
		return answer.Errorf(answer.Unavailable, "%s: no source that is online has the rest of it", k.Name())
	}
	if err != nil {
		return err
	}
	return a.saveList(k, list)
}

// executable reports whether a file can be executed, as far as files are published so.
func executable(info fs.FileInfo) bool { return !info.IsDir() && info.Mode()&0o100 != 0 }

// mayExec reports whether a version is to be executable here: it was published so, and that is allowed,
// or it is so already and the user's own.
func (a *App) mayExec(k *index.Known) (bool, error) {
	c, err := a.settings.Get()
	return k.Exec && (c.Exec || k.User == a.author().User && k.Local != nil && k.Local.Exec), err
}

// setMode gives a file that has the content of a newer version its mode, too, unless somebody has
// changed that here, and returns whether it can be executed now.
func (a *App) setMode(t *tree.Tree, k *index.Known, info fs.FileInfo) (exec bool, err error) {
	exec = executable(info)
	if k.Local == nil || k.Local.Exec != exec || entry.Compare(k.Local.Vector, k.Vector) == entry.Equal {
		return exec, nil
	}
	want, err := a.mayExec(k)
	if err != nil || want == exec || !want && k.User != a.author().User {
		return exec, err
	}
	now, err := t.SetMode(k.User, k.Path, tree.Perm(want))
	if err != nil {
		return exec, err
	}
	return executable(now), nil
}

// commit gives a complete file its name, which clear makes free, and says in the index that it is here.
func (a *App) commit(t *tree.Tree, p *tree.Pending, k *index.Known, clear func() error) error {
	exec, err := a.mayExec(k)
	if err != nil {
		return err
	}
	return a.noter.Note(t, note.Entry{Here: index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.All}, Size: k.Size,
		Commit: func(durable bool) (*index.Local, error) {
			if err := clear(); err != nil {
				return nil, err
			}
			if err := p.Commit(tree.Perm(exec), k.Time.Time(), durable); err != nil {
				return nil, err
			}
			return localOf(p.Written(), k.Content()), nil
		}})
}

// open opens a file that is here.
func (a *App) open(name string) (*os.File, error) {
	user, path, err := a.split(name)
	if err != nil {
		return nil, err
	}
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	f, _, err := t.Open(user, path)
	if err != nil {
		return nil, answer.Errorf(answer.NotFound, "%s: %s", name, state.Explain(err))
	}
	return f, nil
}

// openBlocks opens a flow for blocks.
func (a *App) openBlocks(ctx context.Context, id identity.ID) (net.Conn, error) {
	conn, err := a.host.Mesh.Open(ctx, id, Name+"/blocks", nil)
	if err != nil {
		return nil, err
	}
	return a.down.Conn(conn), nil
}
