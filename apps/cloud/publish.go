package cloud

import (
	"context"
	"io"
	"io/fs"
	"slices"
	"strings"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// The way of a file that is published:
//
//	open -> look at it -> hash -> look again: the same? -> entry of one state in time -> sign, save
//	             \------------- no: again, a few times -----/

// batchFiles is how many files are saved in one transaction.
const batchFiles = 256

func (a *App) author() entry.Author {
	self := a.host.Mesh.Self()
	return entry.Author{ID: self.ID, User: self.User}
}

// Result is what became of one file.
type Result struct {
	Path  string `json:"path"` // "/users/USER/PATH"
	Error string `json:"error,omitempty"`

	Warning string `json:"warning,omitempty"` // it is done, and somebody should look at it
}

// publish publishes files of the local directory, and shares them with some more users. Without any,
// readers are as they were, or as the rule of a directory has it.
func (a *App) publish(ctx context.Context, paths, share []string) (results []Result, err error) {
	t, err := a.local()
	if err != nil {
		return nil, err
	}
	a.remember(ctx)
	user := a.author().User
	for batch := range slices.Chunk(paths, batchFiles) {
		var list []version
		for _, path := range batch {
			if ctx.Err() != nil {
				return results, context.Cause(ctx)
			}
			p, warning, err := a.read(t, user, path, share)
			if err != nil {
				results = append(results, Result{Path: NameOf(user, path), Error: state.Explain(err)})
				continue
			}
			results = append(results, Result{Path: NameOf(user, path), Warning: warning})
			if p != nil {
				list = append(list, *p)
			}
		}
		if err := a.save(list); err != nil {
			return results, err
		}
		for _, p := range list {
			a.problems.Forget(NameOf(user, p.Entry.Path))
		}
	}
	a.news.Again()
	return results, nil
}

// remember asks the other endpoints once what they know of this one's files, if its own index was
// lost: a version that did not know the ones before it would be taken for an old one.
func (a *App) remember(ctx context.Context) {
	if !a.index.Fresh() {
		return
	}
	a.remembered.Do(func() {
		if err := a.learner.Refresh(ctx, a.author().User); err != nil {
			a.log().Info("not all endpoints told what they know of the files here", "err", err)
		}
	})
}

// NameOf returns a path in the form that people use.
func NameOf(user, path string) string { return "/users/" + user + "/" + path }

// version is the next version of a file, which is shared with some more users.
type version struct {
	index.Published
	share []string
}

// save publishes versions. Who may read them is looked at again: that may have changed while the
// files were read, and whoever has lost access since does not get it back.
func (a *App) save(list []version) error {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	self := a.author()
	all := make([]index.Published, len(list))
	for i, v := range list {
		known, err := a.index.Get(self.User, v.Entry.Path)
		if err != nil {
			return err
		}
		all[i] = v.Published
		if all[i].Entry.Readers, err = a.readers(known, v.Entry.Path, v.share); err != nil {
			return err
		}
	}
	return a.index.Publish(self, all)
}

// readers returns who may read the next version of a file that is shared with some more users: who
// may read the one before, or whom the rule of a directory names, and those.
func (a *App) readers(known *index.Known, path string, share []string) (entry.Readers, error) {
	if known != nil && !known.Deleted {
		return known.Readers.SharedWith(share), nil
	}
	rule, err := a.rules.Of(path)
	return rule.SharedWith(share), err
}

// read makes the next version of a file, or nil where there is nothing new to say. warning says what
// is odd about it.
func (a *App) read(t *tree.Tree, user, path string, share []string) (v *version, warning string, err error) {
	known, err := a.index.Get(user, path)
	if err != nil {
		return nil, "", err
	}
	if other := a.index.Spelled(user, path); other != path && known == nil {
		return nil, "", answer.Errorf(answer.Conflict, "the name is published in another form of Unicode, which looks the same; rename the file to that, or remove it")
	}
	c, list, info, err := t.Sum(user, path)
	if err != nil {
		return nil, "", err
	}
	if rooted.Foreign(info) {
		warning = "it is a hard link to a file of another account: is it meant to be published?"
	}
	v, err = a.version(known, path, c, list, info, share)
	return v, warning, err
}

// version makes the version of a file with a content.
func (a *App) version(known *index.Known, path string, c blocks.Content, list blocks.List, info fs.FileInfo, share []string) (*version, error) {
	e := entry.Entry{Path: path, Time: unixtime.MillisNear(info.ModTime()), Exec: executable(info)}
	if known != nil && !known.Deleted && known.Local != nil && known.Local.Exec == e.Exec {
		e.Exec = known.Exec // nobody has changed it here, where it may be otherwise: not allowed, or all that the disk knows
	}
	e.SetContent(c)
	var err error
	if e.Readers, err = a.readers(known, path, share); err != nil {
		return nil, err
	}
	local := localOf(info, c)
	if known != nil && !known.Deleted && known.Content() == c && known.Exec == e.Exec && known.Readers.Equal(e.Readers) &&
		known.Held == index.All && known.Local != nil && known.Local.Changed == local.Changed && known.Local.Exec == local.Exec {
		return nil, nil
	}
	if blocks.Count(c.Size) > 1 {
		if err := a.host.State.Save(listKey(c.Hash), []byte(list)); err != nil {
			return nil, err
		}
	}
	return &version{index.Published{Entry: e, Local: local, Held: index.All}, share}, nil
}

func localOf(info fs.FileInfo, c blocks.Content) *index.Local {
	if info.IsDir() {
		return &index.Local{Hash: slices.Clone(c.Hash[:])} // its size and time are those of what is in it
	}
	return &index.Local{Size: info.Size(), Changed: info.ModTime().UnixNano(), Hash: slices.Clone(c.Hash[:]), Exec: executable(info)}
}

// own cuts a name that must be in this user's own tree.
func (a *App) own(name string) (path string, err error) {
	user, path, err := a.split(name)
	if err != nil {
		return "", err
	}
	if self := a.author().User; user != self {
		return "", answer.Errorf(answer.Denied, "%s belongs to user %s, and only %s can change it", name, user, user)
	}
	return path, nil
}

// split takes a name apart: "/users/USER/PATH", or PATH in this user's own tree. "" is the whole of
// it.
func (a *App) split(name string) (user, path string, err error) {
	rest, absolute := strings.CutPrefix(name, "/users/")
	switch {
	case absolute:
		user, path, _ = strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	case name == "/" || name == "/users":
		return "", "", nil
	case strings.HasPrefix(name, "/"):
		return "", "", answer.Errorf(answer.BadRequest, "the path %q does not begin with /users/", name)
	default:
		user, path = a.author().User, strings.TrimSuffix(name, "/")
	}
	if _, err := tree.Path(user, path); err != nil && path != "" {
		return "", "", answer.Errorf(answer.BadRequest, "%v", err)
	}
	return user, a.spelled(user, path), nil
}

// spelled returns a path as it was published, for whoever types it in another form of Unicode. What
// is here in exactly these bytes is meant by them.
func (a *App) spelled(user, path string) string {
	if a.broken != nil {
		return path
	}
	other := a.index.Spelled(user, path)
	if other == path {
		return path
	}
	if t, err := a.local(); err == nil {
		if _, err := t.Stat(user, path); err == nil {
			return path
		}
	}
	return other
}

// unpublish says of a file, or of all below a path as well, that it is no longer published. Copies stay
// where they are.
func (a *App) unpublish(path string, below, dry bool) (results []Result, err error) {
	a.sharing.Lock()
	defer a.sharing.Unlock()
	user := a.author().User
	var list []index.Published
	a.each(user, path, func(r index.Row) {
		if !r.Deleted && (below || r.Path == path) {
			results = append(results, Result{Path: r.Name()})
			readers := entry.Readers{}
			if r.Readers != nil {
				readers = *r.Readers
			}
			list = append(list, index.Published{Entry: entry.Entry{Path: r.Path, Deleted: true, Time: unixtime.MillisNear(a.now()), Readers: readers}})
		}
	})
	if len(list) == 0 {
		return nil, answer.Errorf(answer.NotFound, "nothing is published as %s", NameOf(user, path))
	}
	if dry {
		return results, nil
	}
	err = a.index.Publish(a.author(), list)
	a.news.Again()
	return results, err
}

// inMirror refuses to unpublish what a mirror here would publish again.
func (a *App) inMirror(path string) (err error) {
	a.each(a.author().User, path, func(r index.Row) {
		if m := a.mirrorOf(r, func(m *mirroring) bool { return m.Upload && !r.Deleted }); m != nil && err == nil {
			err = answer.Errorf(answer.BadRequest, "the mirror %s would publish %s again: remove the file, leave it out there, or end the mirror", m.name, r.Name())
		}
	})
	return err
}

// each calls a function for each row at or below a path of a user; of all users where that is "".
func (a *App) each(user, path string, each func(index.Row)) {
	a.index.Each(func(r *index.Row) bool {
		return user == "" || r.User == user && entry.Below(r.Path, path)
	}, func(r index.Row) bool {
		each(r)
		return true
	})
}

// write writes the content of a file that is streamed here. It has no name yet.
func (a *App) write(t *tree.Tree, path string, size int64, from io.Reader) (*tree.Pending, blocks.Content, blocks.List, error) {
	user := a.author().User
	if err := t.Room(NameOf(user, path), size); err != nil {
		return nil, blocks.Content{}, nil, err
	}
	p, err := t.Create(user, path, "")
	if err != nil {
		return nil, blocks.Content{}, nil, err
	}
	s := blocks.NewSummer(size)
	_, err = io.Copy(struct{ io.Writer }{io.MultiWriter(s, io.NewOffsetWriter(target(p), 0))}, io.LimitReader(from, size))
	c, list, short := s.End()
	if err == nil {
		err = short
	}
	if err != nil {
		p.Discard()
		return nil, c, nil, err
	}
	return p, c, list, nil
}
