// Package cloud shares files in the mesh: published on one endpoint, found and fetched on others,
// from all that have them.
//
//	here:  file -> blocks.Sum -> entry, signed -> index ── "cloud/N" in the endpoint's record ──> hub
//	there: N is new -> flow "cloud/index": entries that this user may read -> verified -> index
//	       -> flow "cloud/blocks" to each holder -> fetch -> tree: temporary file -> its name
//
// The hub learns one number, and no name, size or hash. Who may read a file stands in its signed
// entry, and each holder checks it for each block against the peer of the sealed session.
package cloud

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/builtin"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/give"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/learn"
	"ztm/apps/cloud/load"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/news"
	"ztm/apps/cloud/note"
	"ztm/apps/cloud/rule"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/tree"
	"ztm/apps/rooted"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Name is the name of the app: the first segment of its paths.
const Name = "cloud"

// App is the cloud of one mesh. Make it with [New].
type App struct {
	host     apps.Host
	settings settings.Value[config.Config]
	rules    *rule.Rules
	mirrored settings.Table[mirror.Setting]
	index    *index.Index // nil where it could not be read; static
	broken   error        // why
	learner  *learn.Learner
	fetcher  *fetch.Fetcher
	loads    *load.Loads
	life     context.Context // ends with the app; static
	end      context.CancelFunc
	work     sync.WaitGroup // what requests have started

	flows limit.Counts[identity.ID]   // of one peer
	hints *limit.Buckets[identity.ID] // of one peer
	noter note.Noter
	news  *news.News

	problems state.Problems

	giving give.Flows

	down, up limit.Pace // of contents

	remembered sync.Once // see remember

	sharing sync.Mutex // held while readers and their rules change

	treeMu sync.Mutex // held while the directory is opened
	tree   *tree.Tree // nil until it is needed; guarded by treeMu

	mu       sync.Mutex
	suspects map[string]bool       // files that are looked into, by name; guarded by mu
	mirrors  map[string]*mirroring // by name; guarded by mu
	still    time.Duration         // how long a change has to stand still; 0 is mirror.StandStill

	// Of tests:
	now  func() time.Time // the clock of the trash
	disk *rooted.Disk     // that the local directory is on; nil: the one that it is; guarded by treeMu
}

var _ apps.App = (*App)(nil)

// New makes the app.
func New(h apps.Host) apps.App {
	a := &App{now: time.Now, host: h, settings: settings.Value[config.Config]{State: h.State, Check: (*config.Config).Check},
		rules:    rule.New(h.State),
		mirrored: settings.Table[mirror.Setting]{State: h.State, Prefix: "mirror/", Check: checkMirror}, mirrors: map[string]*mirroring{},
		suspects: map[string]bool{},
		hints:    limit.NewBuckets[identity.ID](limit.Rate{Burst: 10, PerSecond: 1}, 1024)}
	a.life, a.end = context.WithCancel(context.Background())
	if a.index, a.broken = index.Load(h.State, h.Notary); a.broken == nil && a.index.Older() > 0 {
		h.Log.Warn("files that an older ztm published have to be published again", "files", a.index.Older())
	}
	if c, err := a.settings.Get(); err == nil { // otherwise each use of it says why
		a.configured(c, c)
	}
	a.learner = learn.New(learn.Config{Name: Name, Mesh: h.Mesh, Index: a.index, Log: h.Log})
	a.fetcher = fetch.New(fetch.Config{Open: a.openBlocks, Blocks: blocksAtATime})
	a.loads = load.New(load.Config{Life: a.life, Begin: a.begin, Files: filesAtATime, Waiting: filesWaiting, Text: state.Explain})
	a.noter.Index = a.index
	a.news = news.New(news.Config{Name: Name, Index: a.index, Host: h, Others: a.learner.Others, Reader: a.reader})
	return a
}

// Name implements [apps.App].
func (a *App) Name() string { return Name }

// Run implements [apps.App]. At the end of ctx all transfers end, and what has come stays.
func (a *App) Run(ctx context.Context) error {
	defer a.shut()
	if a.broken != nil {
		a.host.Log.Error("the index of files cannot be read", "err", a.broken)
		<-ctx.Done()
		return nil
	}
	if builtin.Mirrors {
		a.startMirrors()
	}
	a.work.Go(a.sweep)
	a.news.Run(ctx)
	return nil
}

// leftTime is how long what an interrupted download has left waits for the next attempt.
const leftTime = 30 * 24 * time.Hour

// sweepPause is how often that is looked for.
const sweepPause = 24 * time.Hour

// sweep removes, from time to time, what interrupted downloads have left for too long.
func (a *App) sweep() {
	for a.life.Err() == nil {
		a.sweepOnce()
		select {
		case <-a.life.Done():
		case <-time.After(sweepPause):
		}
	}
}

func (a *App) sweepOnce() {
	dir, err := a.directory()
	if err == nil {
		_, err = os.Stat(dir) // there may never have been one
	}
	if err != nil {
		return
	}
	t, err := a.local()
	if err == nil {
		err = t.Sweep(time.Now().Add(-leftTime))
	}
	if err != nil {
		a.log().Info("what old downloads have left is not removed", "err", err)
	}
}

// shut ends all that the app has started.
func (a *App) shut() {
	a.end()
	a.work.Wait()
	a.loads.Wait()
	a.fetcher.Wait()
	a.treeMu.Lock()
	defer a.treeMu.Unlock()
	if a.tree != nil {
		a.tree.Close()
		a.tree = nil
	}
}

// Left implements [apps.App]. The mesh has ended their flows.
func (a *App) Left(gone func(apps.Peer) bool) {
	a.learner.Forget()
}

// Serve implements [apps.App].
func (a *App) Serve(ctx context.Context, f apps.Flow) {
	own := f.Peer().User == a.host.Mesh.Self().User
	var serve func(context.Context, apps.Flow)
	switch path := f.Path(); {
	case a.broken != nil:
		f.Refuse(a.broken)
		return
	case path == "index":
		serve = a.serveIndex
	case path == "blocks":
		serve = a.serveBlocks
	case path == "changed":
		serve = a.serveChanged
	case path == "put" && own:
		serve = a.servePut
	case path == "get" && own:
		serve = a.serveGet
	default:
		f.Refuse(answer.Errorf(answer.NotFound, "%s has no %.40q", Name, path))
		return
	}
	if !a.flows.Acquire(f.Peer().ID, flowsOfPeer) {
		f.Refuse(answer.Errorf(answer.Limit, "endpoint %s has %d flows here already", f.Peer().ID, flowsOfPeer))
		return
	}
	defer a.flows.Release(f.Peer().ID)
	serve(ctx, f)
}

// flowsOfPeer is how many flows one peer has here at a time.
const flowsOfPeer = 16

// local returns the local directory, and opens it if need be.
func (a *App) local() (*tree.Tree, error) {
	a.treeMu.Lock()
	defer a.treeMu.Unlock()
	if a.tree != nil {
		return a.tree, nil
	}
	if a.life.Err() != nil {
		return nil, answer.Errorf(answer.Unavailable, "the agent is ending")
	}
	dir, err := a.directory()
	if err != nil {
		return nil, err
	}
	t, err := tree.Open(dir)
	if err != nil {
		return nil, answer.Errorf(answer.CodeOf(err), "%v", err)
	}
	if a.disk != nil {
		t.Disk = *a.disk
	}
	a.tree = t
	return t, nil
}

// log is for what has no other place.
func (a *App) log() *slog.Logger { return a.host.Log }

// API implements [apps.App].
func (a *App) API() http.Handler { return a.routes() }
