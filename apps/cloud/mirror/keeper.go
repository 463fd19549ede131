package mirror

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps/rooted"
)

// Published is what is known of a path: what is published, and what was here when it was last in
// step.
type Published struct {
	Path    string // in the user's tree
	Deleted bool
	Shared  Content // "" where it is deleted
	Local   bool    // something was here
	Last    Content // what that was
	Size    int64   // of that
	Changed int64   // of that, Unix nanoseconds
	Order   Order   // of the published version to that
	Exec    bool    // the published version may be executed
	WasExec bool    // what was here could be
}

// Cloud is what a mirror asks of the app. Paths are in the tree of the mirror's user.
type Cloud interface {
	// Changed is closed when more is known.
	Changed() <-chan struct{}
	// Refresh asks other endpoints for news.
	Refresh(ctx context.Context, user string)
	// Root opens the directory at a path. It is [fs.ErrNotExist] if there is none.
	Root(user, path string) (*rooted.Dir, error)
	// Known lists what is known at and below a path.
	Known(user, path string) ([]Published, error)
	// Sum reads a file: its content, and when it was changed, in Unix nanoseconds.
	Sum(user, path string) (Content, int64, error)

	Publish(ctx context.Context, paths []string) error
	Unpublish(path string) error
	// Fetch fetches files and waits for them. What is edited here, or was made apart, goes aside, and
	// other versions go to the trash.
	Fetch(ctx context.Context, user string, paths []string) error
	// Adopt notes that a file is in step as it is.
	Adopt(user, path string) error
	// Discard moves a file to the trash that was deleted elsewhere.
	Discard(user, path string) error
	// Prune removes a directory if nothing is in it and nobody has published it, and reports whether it did.
	Prune(user, path string) bool
	// Mend moves a file to the trash that the disk has damaged, and forgets that it was here.
	Mend(user, path string) error

	// Note keeps why a file is not done, for people; nil says that it is.
	Note(user, path string, err error)
	// Damaged is Note for a file that the disk has lost.
	Damaged(user, path string)
}

// The way of a change in a mirror:
//
//	inotify, entries of peers, or the clock -> scan -> what differs, and stands still -> hash
//	-> mirror.Make -> adopt, publish, withdraw | fetch, aside, discard -> the index

// How often a mirror looks by itself.
const (
	scanPause  = time.Hour              // where the system tells of changes
	blindPause = time.Minute            // where it does not
	askPause   = 10 * time.Minute       // for news of peers, beside what they say by themselves
	retryPause = time.Minute            // after something failed
	gather     = 200 * time.Millisecond // what is told in such a time is one change
)

// Config is what a mirror is of, and how it works.
type Config struct {
	Cloud      Cloud
	User, Path string // "" is the whole tree of the user
	Mode       Mode
	Leave      Patterns // see [Leaving]
	Mark       Mark
	Dry        bool          // is only asked for a plan: the directory need not be marked
	Still      time.Duration // how long a change has to stand still; 0 is [StandStill]
	Log        *slog.Logger

	// One reports whether two paths of the mirror are one file; nil asks the disk.
	One func(a, b string) bool
}

// Keeper keeps one mirror in step, by one goroutine. State and Confirm may be called from any.
type Keeper struct {
	Config
	wake chan struct{} // has one where it is to look at once; capacity 1

	settler Settler
	seen    map[string]Stat // at the last look; owned by run
	suspect map[string]bool // changed without a new time, and not read yet; owned by run
	cut     map[string]bool // had another size at the first look, and no new time; owned by run
	damaged []string        // by the disk, to be fetched anew; owned by run

	mu        sync.Mutex
	confirmed bool      // the next plan may delete what is held
	held      []string  // guarded by mu
	err       error     // guarded by mu
	files     int       // guarded by mu
	watched   bool      // guarded by mu
	since     time.Time // of err, or of held; guarded by mu
	looked    bool      // guarded by mu
	todo      int       // guarded by mu
}

// New returns a keeper, which does nothing yet.
func New(c Config) *Keeper {
	return &Keeper{Config: c, wake: make(chan struct{}, 1), settler: Settler{Still: c.Still}}
}

// State is how a mirror does.
type State struct {
	Files   int
	Held    []string  // deletions that wait for a person
	Err     error     // why nothing is done
	Watched bool      // changes are told of by the system
	Since   time.Time // of Err, or of Held
	Looked  bool      // it is known what is to be done
	Todo    int       // files that something is being done about
}

// State returns how the mirror does.
func (m *Keeper) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return State{m.files, slices.Clone(m.held), m.err, m.watched, m.since, m.looked, m.todo}
}

// Look has the mirror look at once.
func (m *Keeper) Look() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Confirm lets the deletions go that are held.
func (m *Keeper) Confirm() {
	defer m.Look()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirmed = true
}

// Run keeps the mirror in step until ctx ends.
func (m *Keeper) Run(ctx context.Context) {
	var w *Watcher
	defer func() {
		if w != nil {
			w.Close()
		}
	}()
	blind := false
	asked := time.Time{}
	m.first()
	for ctx.Err() == nil {
		changed := m.Cloud.Changed()
		if now := time.Now(); now.Sub(asked) >= askPause {
			asked = now
			m.Cloud.Refresh(ctx, m.User) // who does not answer now says so later
		}
		if w == nil && !blind {
			w, blind = m.watch(ctx)
		}
		wait, err := m.pass(ctx)
		m.passed(err, w != nil)
		switch {
		case err != nil:
			wait = retryPause
		case wait == 0 && blind:
			wait = blindPause
		case wait == 0:
			wait = min(scanPause, askPause)
		}
		if m.sleep(ctx, wait, changed, w) && w != nil {
			w.Close() // directories that are new are not watched yet
			w = nil
		}
	}
}

// first looks at what is here before others are asked, who may take their time: how many files there are, since when
// they stand still, and that the directory is gone, is known then. Whether anything is to be done is not.
func (m *Keeper) first() {
	found, _, err := m.scan()
	if err == nil {
		_, _, _, err = m.compare(found, time.Now())
	}
	m.passed(err, false)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = len(found.Files)
}

// passed notes how a look has ended.
func (m *Keeper) passed(err error, watched bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.watched, m.todo = err, watched, 0
	switch bad := err != nil || len(m.held) > 0; {
	case !bad:
		m.since = time.Time{}
	case m.since.IsZero():
		m.since = time.Now()
	}
}

// watch begins to watch. Where that cannot be, it says so once.
func (m *Keeper) watch(ctx context.Context) (w *Watcher, blind bool) {
	dir, err := m.root()
	if err != nil {
		return nil, false // pass says why
	}
	defer dir.Close()
	if w, err = Watch(ctx, dir, m.Leave); err != nil {
		m.Log.Warn("the system does not tell of changes in a mirror: it is looked at once a minute", "user", m.User, "path", m.Path, "err", err)
		return nil, true
	}
	return w, false
}

// sleep waits for something to do, and reports whether it was a change here.
func (m *Keeper) sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}, w *Watcher) bool {
	var told chan struct{}
	if w != nil {
		told = w.C
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changed:
		select { // more is coming, as a rule
		case <-time.After(gather):
		case <-ctx.Done():
		}
	case <-m.wake:
	case <-told:
		return true
	}
	return false
}

// root opens the directory of the mirror, and checks that it is the one.
func (m *Keeper) root() (*rooted.Dir, error) {
	dir, err := m.Cloud.Root(m.User, m.Path)
	if m.Dry && err == nil {
		return dir, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err == nil {
		if err = m.Mark.Check(dir); err != nil {
			dir.Close()
		}
	}
	return dir, err
}

// pass looks once, and does what is to be done. wait is when to look again for what has not stood
// still; 0 if nothing waits.
func (m *Keeper) pass(ctx context.Context) (wait time.Duration, err error) {
	plan, wait, err := m.Plan(time.Now())
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	m.held = nil
	for _, a := range plan.Held {
		m.held = append(m.held, a.Path)
	}
	m.looked, m.todo = true, len(plan.Actions)+len(m.damaged)
	m.mu.Unlock()
	return wait, m.act(ctx, plan)
}

// Plan decides what is to be done. It belongs to the goroutine of Run, or to one that has no Run.
func (m *Keeper) Plan(now time.Time) (p Plan, wait time.Duration, err error) {
	found, folds, err := m.scan()
	if err != nil {
		return p, 0, err
	}
	m.damaged = nil
	files, over, wait, err := m.compare(found, now)
	if err != nil {
		return p, 0, err
	}
	m.mu.Lock()
	confirmed := m.confirmed
	m.confirmed = confirmed && !over // what is gone and has not stood still is meant, too
	m.files = len(found.Files)
	m.mu.Unlock()
	return Make(m.Mode, files, folds, confirmed), wait, nil
}

// scan looks at all files. Before there is a mirror its directory need not be there.
func (m *Keeper) scan() (found Found, folds bool, err error) {
	dir, err := m.root()
	if m.Dry && errors.Is(err, ErrGone) {
		return found, false, nil
	}
	if err != nil {
		return found, false, err
	}
	defer dir.Close()
	if found, err = Scan(dir, m.Path, m.Leave); err == nil {
		folds, err = Folds(dir)
	}
	return found, folds, err
}

// below returns a path of the mirror as one of the user's tree.
func (m *Keeper) below(rel string) string { return strings.TrimPrefix(m.Path+"/"+rel, "/") }

// compare says of each file what is here, what was, and what is published. over: all that is gone has
// stood still.
func (m *Keeper) compare(found Found, now time.Time) (files []File, over bool, wait time.Duration, err error) {
	list, err := m.Cloud.Known(m.User, m.Path)
	if err != nil {
		return nil, false, 0, err
	}
	known := map[string]*Published{}
	for i, k := range list {
		known[strings.TrimPrefix(strings.TrimPrefix(k.Path, m.Path), "/")] = &list[i]
	}
	for rel, k := range known {
		if m.Mark.ID == "" && found.Gone(rel) {
			k.Local, k.Last = false, "" // there is no mirror yet: it was not deleted from one
		}
	}
	m.respell(found, known)
	found.keepDirs(known)
	changed, gone := m.differ(found, known)
	still, wait := m.settler.Settled(changed, gone, now)
	// Whoever deletes many files takes a while: they are counted together, or some would pass.
	over = m.Dry || !slices.ContainsFunc(gone, func(rel string) bool { return !still[rel] })
	if m.Dry {
		wait = 0
	}
	for rel, st := range found.Files {
		k := known[rel]
		delete(known, rel)
		f := File{Path: m.below(rel), Here: lastOf(k), Mode: modeOf(st, k)}
		if _, is := changed[rel]; is {
			if !still[rel] && !m.Dry {
				continue // somebody may be writing it
			}
			delete(m.suspect, rel)
			f.Touched = true
			f, err = m.hash(f, k, st, m.cut[rel])
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has gone since the scan
			}
			if err != nil {
				m.Cloud.Note(m.User, f.Path, err)
				continue
			}
		}
		files = append(files, against(f, k))
	}
	for rel, k := range known {
		f := File{Path: m.below(rel), Ignored: m.Leave.Leaves(rel, false) || k.isDir() && m.Leave.Leaves(rel, true) || !found.Gone(rel)}
		if k.Local && !k.Deleted && !over && found.Gone(rel) {
			continue
		}
		files = append(files, against(f, k))
	}
	m.seen = found.Files
	return files, over, wait, nil
}

// differ lists what looks otherwise than when it was last in step.
func (m *Keeper) differ(found Found, known map[string]*Published) (changed map[string]Stat, gone []string) {
	changed = map[string]Stat{}
	if m.suspect == nil {
		m.suspect, m.cut = map[string]bool{}, map[string]bool{}
	}
	for rel, st := range found.Files {
		k := known[rel]
		was, seen := m.seen[rel]
		if seen && was != st && was.Changed == st.Changed {
			m.suspect[rel] = true
		}
		switch as := k != nil && k.Local && k.Size != st.Size && k.Changed == st.Changed; {
		case as && m.seen == nil:
			m.cut[rel] = true // as a loss of power leaves it; it is judged when it has stood still
		case !as:
			delete(m.cut, rel)
		}
		if k == nil || !k.Local || k.Size != st.Size || k.Changed != st.Changed || k.WasExec != st.Exec || m.suspect[rel] {
			changed[rel] = st
		}
	}
	for rel, k := range known {
		if k.Local && !k.Deleted && found.Gone(rel) {
			gone = append(gone, rel)
		}
	}
	return changed, gone
}

// modeOf says whether somebody has made a file executable, or no longer.
func modeOf(st Stat, k *Published) ModeChange {
	switch {
	case k == nil || !k.Local || k.WasExec == st.Exec:
		return SameMode
	case k.Exec == st.Exec:
		return KnownMode
	}
	return NewMode
}

func lastOf(k *Published) Content {
	if k == nil {
		return ""
	}
	return k.Last
}

// hash finds out what is in a file that looks otherwise. cut: nobody saw how it came to that.
func (m *Keeper) hash(f File, k *Published, st Stat, cut bool) (File, error) {
	here, changed, err := m.Cloud.Sum(m.User, f.Path)
	if err != nil {
		return f, err
	}
	f.Here = here
	if k != nil && k.Local && f.Here != k.Last && k.Last != Directory && k.Changed == changed && (st.Status == 0 || m.seen == nil || cut) {
		// Nobody edits a file and keeps its time to the nanosecond: the disk has lost what was written.
		m.Cloud.Damaged(m.User, f.Path)
		f.Why = "its content changed without its time: the disk has lost it"
		m.damaged = append(m.damaged, f.Path)
	}
	return f, nil
}

// against adds what is published.
func against(f File, k *Published) File {
	f.Last, f.Order = lastOf(k), Unknown
	if k == nil {
		return f
	}
	f.Known, f.Shared = true, k.Shared
	if k.Local {
		f.Order = k.Order
	}
	return f
}
