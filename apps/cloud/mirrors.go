package cloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/apps/builtin"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/tunnel/answer"
)

// MirrorState is how a mirror does.
type MirrorState struct {
	Path     string          `json:"path"`
	Download bool            `json:"download"`
	Upload   bool            `json:"upload"`
	Include  mirror.Patterns `json:"include,omitempty"`
	Exclude  mirror.Patterns `json:"exclude,omitempty"`
	Limit    int64           `json:"limit,omitempty"`
	Files    int             `json:"files"`
	Held     []string        `json:"held,omitempty"`    // deletions that wait for a person
	Plan     []string        `json:"plan,omitempty"`    // of a dry run: "fetch PATH"
	Error    string          `json:"error,omitempty"`   // why nothing is done
	Watched  bool            `json:"watched"`           // changes are told of by the system
	Looking  bool            `json:"looking,omitempty"` // it is not known yet what is to be done
	Todo     int             `json:"todo,omitempty"`    // files that something is being done about

	Selective bool `json:"selective,omitempty"`
}

func stateOf(name string, m mirror.Setting) MirrorState {
	return MirrorState{Path: name, Download: m.Download, Upload: m.Upload, Include: m.Include, Exclude: m.Exclude, Limit: m.Limit, Selective: m.Selective}
}

func checkMirror(m *mirror.Setting) error {
	return errors.Join(m.Check(), config.CheckLimit(m.Limit))
}

const maxMirrors = 64

// startMirrors begins with all mirrors that are saved.
func (a *App) startMirrors() {
	err := a.mirrored.Each(func(name string, m mirror.Setting) { a.startMirror(name, m) })
	if err != nil {
		a.log().Error("mirrors cannot be read", "err", err)
	}
}

// startMirror begins with one mirror, in place of one of the same name.
func (a *App) startMirror(name string, m mirror.Setting) *mirroring {
	user, path, _ := a.split(name)
	one := &mirroring{name: name, Setting: m, ended: make(chan struct{}), Keeper: a.keeper(user, path, m, false)}
	ctx, cancel := context.WithCancel(a.life)
	one.cancel = cancel
	a.mu.Lock()
	old := a.mirrors[name]
	a.mirrors[name] = one
	a.mu.Unlock()
	if old != nil {
		old.stop()
	}
	a.work.Go(func() {
		defer close(one.ended)
		one.Run(ctx)
	})
	return one
}

func (a *App) keeper(user, path string, m mirror.Setting, dry bool) *mirror.Keeper {
	return mirror.New(mirror.Config{Cloud: mirrored{a, fetch.NewRate(m.Limit)}, User: user, Path: path, Mode: mirror.Mode{Up: m.Upload, Down: m.Download, Selective: m.Selective},
		Leave: mirror.Leaving(m.Include, m.Exclude), Mark: m.Mark,
		Dry: dry, Still: a.still, Log: a.log()})
}

// mirroring is a mirror at work.
type mirroring struct {
	*mirror.Keeper
	name string
	mirror.Setting
	cancel context.CancelFunc
	ended  chan struct{}
}

func (m *mirroring) state() MirrorState {
	now := m.State()
	s := stateOf(m.name, m.Setting)
	s.Files, s.Watched, s.Looking, s.Todo = now.Files, now.Watched, !now.Looked, now.Todo
	for _, path := range now.Held {
		s.Held = append(s.Held, NameOf(m.User, path))
	}
	if now.Err != nil {
		s.Error = state.Explain(now.Err)
	}
	return s
}

// ofMirrors says of each mirror why nothing is done, unless a file is the reason that is among others.
func (a *App) ofMirrors(others []state.Problem) (list []state.Problem) {
	for _, m := range a.eachMirror() {
		now := m.State()
		p := state.Problem{Path: m.name, Since: now.Since}
		switch {
		case len(now.Held) > 0:
			p.State, p.Help = state.Held, "ztm cloud mirror "+state.Quoted(m.name)+" --confirm"
			p.Reason = fmt.Sprintf("%d deletions wait for a person", len(now.Held))
		case errors.Is(now.Err, mirror.ErrGone):
			p.State, p.Reason = state.Stopped, state.Explain(now.Err)
			p.Help = "mount it, or end the mirror: ztm cloud mirror " + state.Quoted(m.name) + " --download off --upload off"
		case now.Err != nil && !slices.ContainsFunc(others, func(o state.Problem) bool { return entry.Below(o.Path, m.name) }):
			p.State, p.Reason, p.Help = state.Stopped, state.Explain(now.Err), "ztm cloud mirror"
		default:
			continue
		}
		list = append(list, p)
	}
	return list
}

// mirrorOf returns a mirror that does something and keeps a file which is here in step, or nil.
func (a *App) mirrorOf(r index.Row, does func(*mirroring) bool) *mirroring {
	if !builtin.Mirrors {
		return nil
	}
	for _, m := range a.eachMirror() {
		rel, below := strings.CutPrefix(r.Name(), m.name+"/")
		if !below || !does(m) || m.Leave.Leaves(rel, false) || r.IsDir() && m.Leave.Leaves(rel, true) {
			continue
		}
		if t, err := a.local(); err == nil {
			if _, err := look(t, r); err == nil {
				return m
			}
		}
	}
	return nil
}

// stop ends a mirror, and waits for it.
func (m *mirroring) stop() {
	m.cancel()
	<-m.ended
}

// eachMirror returns all mirrors, by name.
func (a *App) eachMirror() (all []*mirroring) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(a.mirrors)) {
		all = append(all, a.mirrors[name])
	}
	return all
}

func (a *App) mirrorStates() []MirrorState {
	list := []MirrorState{}
	for _, m := range a.eachMirror() {
		list = append(list, m.state())
	}
	return list
}

// postMirror changes a mirror.
func (a *App) postMirror(r *http.Request) (any, error) {
	var c mirror.Change
	if err := answer.Decode(r, maxBody, &c); err != nil {
		return nil, err
	}
	user, path, err := a.split(c.Path)
	if err != nil {
		return nil, err
	}
	if user == "" {
		return nil, answer.Errorf(answer.BadRequest, "a mirror is of one user's files: /users/USER")
	}
	name := strings.TrimSuffix(NameOf(user, path), "/")
	a.mu.Lock()
	now := a.mirrors[name]
	others := len(a.mirrors)
	overlaps := ""
	for other := range a.mirrors {
		if other != name && (entry.Below(other, name) || entry.Below(name, other)) {
			overlaps = other
		}
	}
	a.mu.Unlock()
	m := mirror.Setting{}
	if now != nil {
		m = now.Setting
	}
	c.Apply(&m)
	if err := checkMirror(&m); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	switch {
	case overlaps != "":
		return nil, answer.Errorf(answer.Conflict, "%s is a mirror already", overlaps)
	case now == nil && others >= maxMirrors:
		return nil, answer.Errorf(answer.Limit, "%d mirrors are the most", maxMirrors)
	case m.Upload && user != a.author().User:
		return nil, answer.Errorf(answer.Denied, "%s belongs to user %s: it can be downloaded, not uploaded", name, user)
	case c.Limit != nil && *c.Limit > 0 && !m.Download:
		return nil, answer.Errorf(answer.BadRequest, "%s fetches nothing; how fast others fetch from here is set with: ztm cloud config --limit-up RATE", name)
	case !m.Download && !m.Upload && now == nil:
		return nil, answer.Errorf(answer.BadRequest, "%s is no mirror; say which way: --download on, --upload on", name)
	case c.DryRun:
		return a.wouldMirror(name, user, path, m)
	case !m.Download && !m.Upload:
		return a.endMirror(name, now)
	}
	return a.setMirror(name, user, path, m, c.Confirm)
}

func (a *App) endMirror(name string, now *mirroring) (any, error) {
	if err := a.mirrored.Delete(name); err != nil {
		return nil, err
	}
	now.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mirrors, name)
	return MirrorState{Path: name}, nil
}

// setMirror saves a mirror and begins with it.
func (a *App) setMirror(name, user, path string, m mirror.Setting, confirm bool) (any, error) {
	t, err := a.local()
	if err == nil {
		err = a.mayMirror(t)
	}
	if err != nil {
		return nil, err
	}
	if m.Mark.ID == "" {
		if err := a.forgetMissing(t, user, path); err != nil {
			return nil, err
		}
		dir, err := t.Root(user, path, true)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		if m.Mark, err = mirror.SetMark(dir, rand.Text()); err != nil {
			return nil, err
		}
	}
	if err := a.mirrored.Set(name, m, nil); err != nil {
		return nil, err
	}
	one := a.startMirror(name, m)
	if confirm {
		one.Confirm()
	}
	return one.state(), nil
}

// mayMirror refuses mirrors on the flash of a router, unless somebody has chosen the directory.
func (a *App) mayMirror(t *tree.Tree) error {
	c, err := a.settings.Get()
	if err != nil || c.LocalDir != "" || !t.Disk.Flash {
		return err
	}
	return answer.Errorf(answer.Denied, "the local directory is on flash of %d MB, which a mirror fills and wears out; choose one on a disk: ztm cloud config --local-dir DIR", t.Disk.Size/1e6)
}

// forgetMissing forgets that files were here which are not. That they went before there was a mirror
// says nothing: the local directory may be another one.
func (a *App) forgetMissing(t *tree.Tree, user, path string) (err error) {
	var list []index.Here
	a.each(user, path, func(r index.Row) {
		if _, serr := look(t, r); !errors.Is(serr, fs.ErrNotExist) || err != nil {
			return
		}
		var k *index.Known
		if k, err = a.index.Get(r.User, r.Path); k != nil && k.Local != nil {
			list = append(list, index.Here{User: k.User, Path: k.Path, Content: k.Content(), Held: index.None})
		}
	})
	if err != nil {
		return err
	}
	return a.index.Note(list)
}

// wouldMirror tells what a mirror would do now.
func (a *App) wouldMirror(name, user, path string, m mirror.Setting) (any, error) {
	one := a.keeper(user, path, m, true)
	plan, _, err := one.Plan(time.Now())
	if err != nil {
		return nil, answer.Errorf(answer.CodeOf(err), "%v", state.Explain(err))
	}
	s := stateOf(name, m)
	s.Files = one.State().Files
	for _, action := range plan.Actions {
		s.Plan = append(s.Plan, action.Step.String()+" "+NameOf(user, action.Path))
	}
	for _, action := range plan.Held {
		s.Held = append(s.Held, NameOf(user, action.Path))
	}
	return s, nil
}
