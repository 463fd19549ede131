// Package keep has the policy of a mesh at an endpoint: what was signed, and what is in force.
//
//	a peer says that it has a newer head ─┐
//	a holder of the CA key tells of one  ─┼> take: signed by the newest CA, newer -> on disk -> refresh
//	a new session with a hub: ask holders ┘                                                        │
//	     refresh: the slice of that head, from a holder (who cuts it from the source) <────────────┘
//	        -> in force: compiled, on disk, and what runs is judged again
//
// Head and slice are in force together. Who knows of a newer head and has no slice of it for ten
// minutes lets nobody in by the policy that it has: what that gives may have been taken away. The
// hub has no part in this. It carries sealed sessions, and can withhold, but not forge.
package keep

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ztm/agent/feature"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/unixtime"
)

// Config is what a Keeper needs of the membership that it belongs to. All of it is set.
type Config struct {
	Self     identity.ID
	Log      *slog.Logger
	PeerLog  *limit.Log // of what peers can cause
	Verifier *identity.Verifier
	Signer   func() (*identity.CA, error) // the CA key, where it is
	State    apps.State
	First    []byte // the head that the permit had, with which a membership begins; nil: it had none
	Work     *inflight.Tracker
	Life     context.Context

	// Ask sends a request to a peer, see package peers.
	Ask func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error)

	// AskOnce is Ask for one question to each of many peers: a session that is opened for it ends with the
	// answer.
	AskOnce func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error)

	// Holders lists other endpoints that hold the CA key and are online.
	Holders func(ctx context.Context) ([]apps.Endpoint, error)

	// Online lists the endpoints that are online.
	Online func(ctx context.Context) ([]apps.Endpoint, error)

	// SigningTime is the time for a head that is signed here: now, or what a hub says where this
	// device's clock is ahead. Nobody can take it back: clocks are moved to it.
	SigningTime func(ctx context.Context, now time.Time) time.Time

	// Hint gives a device without a clock the time at which a head was signed: what has ended by then
	// does not come back.
	Hint func(time.Time)

	// User is the user of this endpoint.
	User func() string

	// App returns an app of this endpoint, to ask for its rules; nil if there is none.
	App func(name string) any

	// Apps lists the apps of this endpoint, sorted.
	Apps func() []string

	// Judge looks again at all that runs for peers.
	Judge func()

	// Announce tells the owner of this endpoint that a group whose use is announced was changed or used:
	// what was done, which is not told again for a while, and more of it, which a peer may choose.
	Announce func(group, what, more string)

	// Applied is called when another version is in force here.
	Applied func(version uint64, mode string)
}

// Keeper is made with [New]. Its methods may be called from any goroutine.
type Keeper struct {
	Config
	rights atomic.Pointer[policy.Rights] // in force; nil without a policy
	wake   chan struct{}                 // there is something to do, capacity 1
	asks   *limit.Buckets[identity.ID]   // slices that peers ask for
	looks  *limit.Buckets[identity.ID]   // what peers ask of what they may reach
	reads  *limit.Buckets[identity.ID]   // what peers of other users ask of who can reach what here

	proposing sync.Mutex // held while a new version is made

	mu      sync.Mutex
	head    *signed.Signed      // the newest that was seen; guarded by mu
	known   time.Time           // since when the head is known; guarded by mu
	slice   *signed.Slice       // what is in force, perhaps of an older head; guarded by mu
	loud    bool                // a group of slice has its use announced; guarded by mu
	source  *signed.Source      // of head, at holders that have it; guarded by mu
	cuts    *signed.Cutter      // of the source that slices were cut of last; guarded by mu
	wanted  map[string]struct{} // terms that rules here name and the slice has not; guarded by mu
	judged  unixtime.Seconds    // up to when ends were looked at, Unix seconds; guarded by mu
	again   bool                // what runs is to be judged again; guarded by mu
	applied chan struct{}       // closed when a slice is put in force, and made anew; guarded by mu
	line    []string            // sums of the heads that head rests on, as far as they are known, the newest first; guarded by mu
	made    []*proposal         // versions that were made here, the last ones; guarded by mu

	told   *signed.Source           // the last version of which all were told that were online; nil: not known; guarded by mu
	askers map[identity.ID][]string // what others asked for with their slices, those who asked for anything; guarded by mu

	telling   *telling                 // of the version that was made here last; nil: none since the start; guarded by mu
	comparing map[identity.ID]struct{} // peers whose heads are being compared with ours; guarded by mu
}

const (
	maxStale  = 10 * time.Minute // how long what is in force is good once a newer head is known
	tick      = 4 * time.Second  // how often ends are looked at, while there are any
	askTime   = 20 * time.Second // for one request to a peer
	askAgain  = 10 * time.Minute // how often holders are asked, where there is a policy
	askBurst  = 10               // slices that a peer may ask for at once, and as often what it may reach
	askRate   = 0.2              // and in a second from then on
	readBurst = 100              // questions who can reach what that a peer may ask at once
	readRate  = 1                // and in a second from then on
	askPeers  = 4096             // whose requests are counted
	stateHead = "head"
	stateOwn  = "slice"
	stateAll  = "source"
	stateMade = "made"
)

// New makes the Keeper of a membership, from what is on disk.
func New(c Config) *Keeper {
	k := &Keeper{Config: c, wake: make(chan struct{}, 1), wanted: map[string]struct{}{}, comparing: map[identity.ID]struct{}{}, askers: map[identity.ID][]string{}, applied: make(chan struct{}),
		asks:  limit.NewBuckets[identity.ID](limit.Rate{Burst: askBurst, PerSecond: askRate}, askPeers),
		looks: limit.NewBuckets[identity.ID](limit.Rate{Burst: askBurst, PerSecond: askRate}, askPeers),
		reads: limit.NewBuckets[identity.ID](limit.Rate{Burst: readBurst, PerSecond: readRate}, askPeers)}
	err := k.load()
	if k.head == nil && err == nil && len(c.First) > 0 {
		err = k.Take(c.First)
	}
	if err != nil {
		c.Log.Error("the policy that was saved is unusable: nobody is let in until there is another", "err", err)
		nothing := policy.Compile(&signed.Slice{Mode: signed.Enforce}, func(string, unixtime.Seconds) bool { return true })
		k.rights.Store(nothing.Stale())
	}
	return k
}

// load reads what was saved. It was verified before, and the CA may have been replaced since.
func (k *Keeper) load() error {
	var head, slice []byte
	if found, err := k.State.Load(stateHead, &head); err != nil || !found {
		return err
	}
	trust := k.Verifier.Trust()
	h, err := signed.OpenHead(trust, head)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.head, k.known, k.line = h, time.Now(), lineOf(h, nil)
	if feature.Policies {
		if err := k.recallLocked(h); err != nil {
			return err
		}
	}
	if found, err := k.State.Load(stateOwn, &slice); err == nil && found {
		k.slice, err = signed.OpenSlice(trust, h, k.Self, slice)
		if err != nil {
			k.Log.Info("the slice of the policy that was saved is of another version", "err", err)
		}
	}
	k.compileLocked()
	return nil
}

// CheckPermit refuses a permit whose head of the policy is not the mesh's.
func CheckPermit(p *identity.Permit) error {
	if len(p.Policy) == 0 {
		return nil
	}
	trust, err := identity.ParseTrust([]byte(p.CA), p.Trust)
	if err == nil {
		_, err = signed.OpenHead(trust, p.Policy)
	}
	if err != nil {
		return answer.Errorf(answer.BadRequest, "permit: policy: %v", err)
	}
	return nil
}

// ForPermit is the head with which whoever is invited now begins; nil without a policy, and while the
// mesh's new CA has not signed it.
func (k *Keeper) ForPermit() []byte {
	if h := k.Head(); h != nil && h.By == k.Verifier.Trust().Newest() {
		return h.Document
	}
	return nil
}

// Lapses reports whether there is a policy that nobody signs again here when the mesh has another CA.
func (k *Keeper) Lapses() bool { return !feature.Policies && k.Head() != nil }

// compileLocked puts in force what head and slice say.
func (k *Keeper) compileLocked() {
	if k.head == nil {
		return
	}
	slice := k.slice
	if slice == nil { // nothing is known of whom the policy lets in
		slice = &signed.Slice{Mode: k.head.Mode}
	}
	k.loud = isLoud(slice)
	stale := k.staleLocked(time.Now())
	if stale && k.head.Mode == signed.Enforce { // whatever the older policy did
		enforced := *slice
		enforced.Mode = signed.Enforce
		slice = &enforced
	}
	r := k.compile(slice)
	if stale {
		r = r.Stale()
	}
	k.rights.Store(r)
}

// compile makes the rights of a slice: evictions end what users were given before.
func (k *Keeper) compile(s *signed.Slice) *policy.Rights {
	trust := k.Verifier.Trust()
	return policy.Compile(s, func(user string, added unixtime.Seconds) bool { return trust.Voids(user, added.Time()) })
}

// staleLocked reports whether a newer head is known for so long that what is in force is not to be
// used. The wall clock counts: a laptop sleeps.
func (k *Keeper) staleLocked(now time.Time) bool {
	behind := k.head != nil && (k.slice == nil || k.slice.Head != k.head.Sum)
	return behind && now.Round(0).Sub(k.known.Round(0)) > maxStale
}

// Rights returns what is in force; nil without a policy.
func (k *Keeper) Rights() *policy.Rights { return k.rights.Load() }

// Head returns the newest head that is known; nil without a policy.
func (k *Keeper) Head() *signed.Signed {
	k.mu.Lock()
	head := k.head
	k.mu.Unlock()
	return head
}

// Direct is how far the policy lets devices go without a hub; "" is as far as they want.
func (k *Keeper) Direct() string {
	if h := k.Head(); h != nil {
		return h.Direct
	}
	return ""
}

// Version is that of the newest policy that is known; 0 without one.
func (k *Keeper) Version() uint64 {
	if h := k.Head(); h != nil {
		return h.Version
	}
	return 0
}

// Names implements [apps.Names]. A group that is not known here is asked for.
func (k *Keeper) Names(p apps.Peer, who []string) bool {
	r := k.rights.Load()
	if r.Names(p, who, k.now()) {
		return true
	}
	for _, term := range who {
		if !r.Knows(term) {
			k.want(term)
		}
	}
	return false
}

func (k *Keeper) now() unixtime.Seconds { return unixtime.Of(k.Verifier.Clock().Now()) }

// want notes a term that the slice has not, and reports whether that is new and will be asked for. One
// that cannot be is not: a holder would refuse all that is asked for with it.
func (k *Keeper) want(term string) bool {
	if apps.CheckWho([]string{term}) != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, noted := k.wanted[term]; noted || len(k.wanted) >= signed.MaxAsked || k.slice != nil && slices.Contains(k.slice.Asked, term) {
		return false
	}
	k.wanted[term] = struct{}{}
	k.Kick()
	return k.head != nil
}

// awaitTime is how long somebody waits for a group that is asked for the first time.
const awaitTime = 3 * time.Second

// Await asks for what a rule names and is not known here, and waits a little for it the first time:
// whoever comes first need not be refused.
func (k *Keeper) Await(ctx context.Context, who []string) {
	k.mu.Lock()
	put := k.applied
	k.mu.Unlock()
	r, asked := k.rights.Load(), false
	for _, term := range who {
		asked = !r.Knows(term) && k.want(term) || asked
	}
	if !asked {
		return
	}
	late := time.NewTimer(awaitTime)
	defer late.Stop()
	select {
	case <-put:
	case <-late.C:
	case <-ctx.Done():
	}
}

// askedLocked lists the terms that rules here name, sorted.
func (k *Keeper) askedLocked() []string {
	var out []string
	if k.slice != nil {
		out = slices.Clone(k.slice.Asked)
	}
	for t := range k.wanted {
		out = append(out, t)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), signed.MaxAsked)]
}

// Kick has the Keeper look whether there is something to do.
func (k *Keeper) Kick() {
	select {
	case k.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// TrustChanged is called when another trust list is in force: an eviction ends memberships, and
// another CA has to sign.
func (k *Keeper) TrustChanged() {
	k.mu.Lock()
	k.compileLocked()
	k.again = true
	k.mu.Unlock()
	k.Kick()
}

// Take takes a head that a peer or a holder has. Errors match [identity.ErrRollback] where a newer
// one, or the same, is known.
func (k *Keeper) Take(doc []byte) error {
	h, err := k.open(doc)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !h.Newer(k.head) {
		return identity.ErrRollback
	}
	return k.takeLocked(h)
}

// open reads a head, which the mesh's newest CA has to have signed.
func (k *Keeper) open(doc []byte) (*signed.Signed, error) {
	trust := k.Verifier.Trust()
	h, err := signed.OpenHead(trust, doc)
	if err == nil && h.By != trust.Newest() {
		err = answer.Errorf(answer.Denied, "version %d of the policy is signed by a CA that the mesh replaced", h.Version)
	}
	return h, err
}

// takeLocked makes a newer head the newest that is known, on disk as well.
func (k *Keeper) takeLocked(h *signed.Signed) error {
	values := map[string]any{stateHead: h.Document}
	if feature.Policies && len(k.made) > 0 {
		values[stateMade] = remember(k.made, k.lineWithLocked(h))
	}
	if err := k.State.SaveAll(values); err != nil {
		return err
	}
	k.adoptLocked(h)
	return nil
}

// adoptLocked makes a head that is on disk the newest that is known.
func (k *Keeper) adoptLocked(h *signed.Signed) {
	if k.head == nil || k.slice != nil && k.slice.Head == k.head.Sum {
		k.known = time.Now() // else it is behind since before
	}
	was := ""
	if k.head != nil {
		was = k.head.Direct
	}
	k.head, k.source, k.line = h, nil, k.lineWithLocked(h)
	k.Hint(h.Issued.Time())
	stale := k.rights.Load().IsStale()
	if k.slice == nil || stale { // the head alone says something
		k.compileLocked()
	}
	k.again = k.again || stale || h.Direct != was // how far devices go without a hub stands in the head
	k.Kick()
}

// put puts a slice in force.
func (k *Keeper) put(h *signed.Signed, doc []byte) error {
	s, err := signed.OpenSlice(k.Verifier.Trust(), h, k.Self, doc)
	if err != nil {
		return err
	}
	k.mu.Lock()
	return k.putAndUnlock(h, s, doc)
}

// putAndUnlock is put for a slice that was read, and unlocks mu.
func (k *Keeper) putAndUnlock(h *signed.Signed, s *signed.Slice, doc []byte) error {
	another := k.slice == nil || k.slice.Head != h.Sum // else more of the same
	if k.head.Sum != h.Sum {
		k.mu.Unlock()
		return identity.ErrRollback
	}
	if err := k.State.SaveAll(map[string]any{stateHead: h.Document, stateOwn: doc}); err != nil {
		k.mu.Unlock()
		return err
	}
	k.slice = s
	for _, t := range s.Asked {
		delete(k.wanted, t)
	}
	k.compileLocked()
	k.judged = k.now()
	close(k.applied)
	k.applied = make(chan struct{})
	k.mu.Unlock()
	if another {
		k.Log.Info("the policy is in force", "version", h.Version, "mode", h.Mode)
		k.Applied(h.Version, h.Mode)
	}
	k.Judge()
	return nil
}
