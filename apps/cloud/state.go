package cloud

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"ztm/apps/builtin"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/load"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// File is a file as listings show it.
type File struct {
	Path    string      `json:"path"` // "/users/USER/PATH"
	State   state.State `json:"state"`
	Size    int64       `json:"size"`
	Time    time.Time   `json:"time"`
	Sources int         `json:"sources"` // endpoints that hold it, this one among them
	Shared  string      `json:"shared,omitempty"`
	Hash    string      `json:"hash,omitempty"`

	Directory bool   `json:"directory,omitempty"` // there is nothing to fetch of it
	Error     string `json:"error,omitempty"`
}

// Files lists what is published, and what is here, at or below a path.
func (a *App) files(user, path string) ([]File, error) {
	var list []File
	known := map[string]bool{}
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	a.each(user, path, func(r index.Row) {
		known[r.Path] = known[r.Path] || r.User == a.author().User && !r.Deleted
		if !r.Deleted {
			list = append(list, a.file(t, r))
		}
	})
	self := a.author().User
	if user != "" && user != self {
		return list, nil
	}
	err = t.Walk(self, func(p string, info fs.FileInfo, err error) error {
		if known[p] || !entry.Below(p, path) || len(list) > index.MaxOfUser || err == nil && a.known(t, p, info) {
			return nil
		}
		f := File{Path: NameOf(self, p), State: state.Unpublished}
		if err != nil {
			f.State, f.Error = state.Unreadable, state.Explain(err)
		} else {
			f.Size, f.Time = info.Size(), info.ModTime()
		}
		if strings.Contains(p, ".conflict-") {
			f.State = state.Conflict
		}
		list = append(list, f)
		return nil
	})
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	return list, err
}

// known reports whether a file here is a published one, of whose name the disk has made another form
// of Unicode.
func (a *App) known(t *tree.Tree, path string, info fs.FileInfo) bool {
	self := a.author().User
	other := a.index.Spelled(self, path)
	if other == path {
		return false
	}
	there, err := t.Stat(self, other)
	return err == nil && os.SameFile(info, there)
}

// file describes a published file.
func (a *App) file(t *tree.Tree, r index.Row) File {
	f := File{Path: r.Name(), Size: r.Size, Time: r.Time.Time(), Hash: hex.EncodeToString(r.Content[:]), Shared: r.Readers.Text()}
	f.Sources = len(a.learner.Holders(r.User, r.Path))
	if r.Held == index.All {
		f.Sources++
	}
	if f.State, f.Error = a.state(t, r); r.IsDir() {
		f.Directory, f.Hash = true, ""
	}
	return f
}

// state says how the file here stands to the published one, as far as can be seen without reading
// it.
func (a *App) state(t *tree.Tree, r index.Row) (state.State, string) {
	problem, has := a.problems.Of(r.Name())
	loading := a.loads.Fetches(r.Name())
	info, err := look(t, r)
	switch {
	case loading:
		return state.Downloading, ""
	case has && problem.State == state.Damaged:
		return state.Damaged, problem.Reason
	case errors.Is(err, rooted.ErrNotHere):
		return state.NotRepresentable, state.Explain(err)
	case errors.Is(err, fs.ErrNotExist):
		return state.Missing, problem.Reason
	case err != nil:
		return state.Unreadable, state.Explain(err)
	}
	k, err := a.index.Get(r.User, r.Path)
	if err != nil || k == nil {
		return state.Changed, ""
	}
	if k.Local == nil {
		return state.Changed, notBrought
	}
	switch {
	case !ours(k, info):
		return state.Changed, ""
	case slices.Equal(k.Local.Hash, k.Hash) && k.Held == index.All:
		return state.Synced, ""
	}
	return state.Outdated, problem.Reason
}

// Described is all that is known of one file.
type Described struct {
	File
	By      string       `json:"by"`      // the endpoint that published this version
	Version entry.Vector `json:"version"` // how many versions each endpoint has made
	Readers []string     `json:"readers,omitempty"`
	All     bool         `json:"all,omitempty"` // each member may read it
	Holders []string     `json:"holders,omitempty"`
	Block   int64        `json:"block"`  // bytes of a block
	Blocks  int          `json:"blocks"` // how many it has
	Here    int          `json:"here"`   // how many of them are here
}

// describe describes one file.
func (a *App) describe(name string) (*Described, error) {
	user, path, err := a.split(name)
	if err != nil {
		return nil, err
	}
	k, err := a.index.Get(user, path)
	if err != nil {
		return nil, err
	}
	if k == nil || k.Deleted || k.Older() {
		return nil, answer.Errorf(answer.NotFound, "%s is not published, or not for you", NameOf(user, path))
	}
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	d := &Described{By: string(k.By), Version: k.Vector, Readers: k.Readers.Terms(), All: k.Readers.All, Block: k.Block, Blocks: blocks.Count(k.Size)}
	a.each(user, path, func(r index.Row) {
		if r.Path == path {
			d.File = a.file(t, r)
		}
	})
	if k.Held == index.All {
		d.Here = d.Blocks
	} else if _, have, _, _ := a.fetcher.Serve(k.Content().Hash, func(name string) bool { return name == k.Name() }); have != nil {
		d.Here = have.Count()
	}
	for _, id := range a.learner.Holders(user, path) {
		d.Holders = append(d.Holders, string(id))
	}
	return d, nil
}

// Status is what goes on, and what is not done.
type Status struct {
	Dir       string          `json:"dir"`
	Downloads []load.Progress `json:"downloads,omitempty"`
	Problems  []state.Problem `json:"problems,omitempty"`
}

// status says of each file that is not done why, since when, and what helps.
func (a *App) status() (s Status, err error) {
	if s.Dir, err = a.directory(); err != nil {
		return s, err
	}
	for _, p := range a.loads.List() {
		if !p.Ended {
			s.Downloads = append(s.Downloads, p)
		}
	}
	if s.Problems, err = a.lasting(); err != nil {
		return s, err
	}
	if builtin.Mirrors {
		s.Problems = append(s.Problems, a.ofMirrors(s.Problems)...)
	}
	list, err := a.files(a.author().User, "")
	for _, f := range list {
		if p, ok := pending(f); ok && !slices.ContainsFunc(s.Problems, func(o state.Problem) bool { return o.Path == p.Path }) {
			s.Problems = append(s.Problems, p)
		}
	}
	sort.Slice(s.Problems, func(i, j int) bool { return s.Problems[i].Path < s.Problems[j].Path })
	return s, err
}

// lasting returns the problems of files that are still not done, and forgets the others: what is
// published no longer, and what somebody else has mended.
func (a *App) lasting() (list []state.Problem, err error) {
	rows := map[string]index.Row{}
	all := a.problems.List()
	for _, p := range all {
		rows[p.Path] = index.Row{Deleted: true}
	}
	a.index.Each(func(r *index.Row) bool { _, is := rows[r.Name()]; return is }, func(r index.Row) bool {
		rows[r.Name()] = r
		return true
	})
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if a.done(t, p.Path, rows[p.Path]) {
			a.problems.Forget(p.Path)
		} else {
			list = append(list, p)
		}
	}
	return list, nil
}

// done reports whether there is nothing to be done about a file any longer.
func (a *App) done(t *tree.Tree, name string, r index.Row) bool {
	if !r.Deleted {
		is, _ := a.state(t, r)
		return is == state.Synced
	}
	user, path, _ := strings.Cut(strings.TrimPrefix(name, "/users/"), "/")
	_, err := t.Stat(user, path)
	return errors.Is(err, fs.ErrNotExist)
}

// notBrought is said of a file that nothing was noted of: it was here before this endpoint joined, or
// was copied here by other means.
const notBrought = "it was not fetched or published by this endpoint, and may be what is published"

// pending says of a file of this user's own tree what is not done about it.
func pending(f File) (p state.Problem, ok bool) {
	p = state.Problem{Path: f.Path, State: f.State, Since: f.Time, Reason: f.Error}
	switch f.State {
	case state.Changed:
		if p.Reason == notBrought {
			p.Help = "ztm cloud verify " + state.Quoted(f.Path)
			break
		}
		p.Reason, p.Help = "it was edited here and not published", "ztm cloud publish "+state.Quoted(f.Path)
	case state.Conflict:
		p.Reason, p.Help = "it was edited here while another version was published", "compare it with the file beside it, then remove it"
	case state.NotRepresentable, state.Unreadable:
		p.Help = "rename it where it was published"
	default:
		return p, false
	}
	return p, true
}
