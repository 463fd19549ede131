// Package link joins the hubs of a mesh.
//
//	roster.go    which hubs there are: signed records, which hubs pass on to each other
//	dial.go      one link to each of them: dialled, followed, given up after silence
//	follow.go    what another hub tells over a link
//	feed.go      what this hub tells
//	presence.go  which endpoint is attached to which other hub
//	hop.go       paths that another hub carries on
//	serve.go     what other hubs ask
//
// A link goes one way: the hub that dialled asks. Two hubs have two, and either may fail alone.
// What a hub says of others is a hint: records and lists are signed, an attachment is signed by its
// endpoint, and a path to an endpoint that is not there is refused by the hub that was asked. A hub
// that is silent for Silent has said nothing: what it told is forgotten.
package link

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/pause"
	"ztm/tunnel/unixtime"
)

// Attachment is an endpoint that is attached to this hub.
type Attachment struct {
	Address  string          // where this hub sees it
	Attach   []byte          // identity.SignAttach; nil from an agent that does not sign
	Instance string          // as in Attach
	Since    unixtime.Millis // as in Attach
	Time     unixtime.Millis // of its record
}

// Host is what links ask of the hub that they belong to. Its methods do not call [Links], may be
// called from any goroutine, and do not wait for the network.
type Host interface {
	// Attachment returns whether an endpoint is attached to this hub, and how.
	Attachment(id identity.ID) (Attachment, bool)
	// Attached returns the endpoints that are attached to this hub.
	Attached() []identity.ID
	// Key returns the key of an endpoint, by its record in the directory; nil if it is not there.
	Key(id identity.ID) ed25519.PublicKey
	// Replace ends the attachment of an endpoint to this hub if it is of another process than
	// instance, and older.
	Replace(id identity.ID, instance string, since unixtime.Millis)
	// Lost ends the connections of a hub that is silent.
	Lost(hub identity.ID)
	// Changed is called when there is another set of hubs, or one of them has another record.
	Changed()
}

// Book is what the directory of a hub is for links. A directory that all hubs share needs none.
type Book interface {
	// Record returns the signed record of an endpoint and its time; nil if there is none.
	Record(id identity.ID) (doc []byte, time unixtime.Millis)
	// Learn takes the record of an endpoint from another hub. Where another endpoint has the name,
	// and keeps it, it returns that one.
	Learn(doc []byte, record identity.Record, subject identity.Subject) (holder identity.ID, err error)
	// Left removes an endpoint that left on another hub, if its record is not newer than time.
	Left(id identity.ID, time unixtime.Millis, keep bool)
}

// Asked is what other hubs ask of this one. Errors are as those of the control API.
type Asked interface {
	// Sign asks an endpoint that is attached to this hub for a certificate.
	Sign(ctx context.Context, signer identity.ID, what tunnel.SignRequest) (der []byte, err error)
	// SetTrust takes a trust list from a hub.
	SetTrust(doc []byte, from identity.Subject) error
}

// Config is what links are made with.
type Config struct {
	Own         identity.HubRecord // of this hub; Time, Certificate and Draining are filled in
	Key         ed25519.PrivateKey
	Certificate func() tls.Certificate
	Verifier    *identity.Verifier
	Peers       []string // host:port of other hubs, to begin with
	Known       [][]byte // records of hubs, from an earlier run
	Host        Host
	Book        Book // may be nil
	Asked       Asked
	Most        int // endpoints of another hub
	Hops        int // paths to another hub, and from it
	Log         *slog.Logger

	// Lookup returns the addresses of a host; nil asks the system.
	Lookup tunnel.Lookup

	// Zero means the default.
	Ping   time.Duration // between two pings to another hub: 1 s
	Silent time.Duration // after which another hub is taken for lost: 2 s
}

// Times.
const (
	pingTime     = time.Second
	silentTime   = 2 * time.Second
	ghostTime    = 5 * time.Second        // for which a listing shows what a lost hub said
	unsureTime   = 500 * time.Millisecond // between two looks for a record that is not there yet
	compareTime  = time.Minute            // between two comparisons of trust lists, with jitter
	seekTime     = 30 * time.Second       // between two looks behind a name whose hubs are known
	refusedTime  = time.Minute            // before a hub that is refused, or too old, is tried again; at most, one that refuses this hub
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 5 * time.Second
	askTimeout   = 10 * time.Second // for a request over a link that the hub itself answers
	writeTimeout = 5 * time.Second  // for an event to be taken
	hedgeTime    = 500 * time.Millisecond
	standbyTime  = tunnel.StandbyTime * 3 / 4
	leftTime     = 24 * time.Hour // for which it is told that an endpoint left
	mostLeft     = 4096
)

// Links are the links of a hub. Make it with [New], and [Links.Run] it. All methods are safe for
// concurrent use.
type Links struct {
	c       Config
	metrics Metrics
	woken   chan struct{} // holds a token when there may be a hub without a goroutine; never closed

	mu       sync.Mutex
	own      identity.HubRecord
	ownDoc   []byte
	hubs     map[identity.ID]*hub
	feeds    map[identity.ID]*feed // by the hub that is told
	left     map[identity.ID]left
	draining bool
	said     map[string]string // what was logged last, by what it is about
}

// hub is another hub, as this one knows it. Its fields are guarded by Links.mu.
type hub struct {
	id     identity.ID
	doc    []byte // its signed record; nil: it has told none yet
	record identity.HubRecord
	forget context.CancelFunc // ends its goroutine; nil: none runs
	wake   chan struct{}      // holds a token when it is worth to dial at once; never closed

	session *tunnel.Session // the link to it; nil: none
	some    chan struct{}   // wakes the goroutine that follows; never closed, and for all links one
	trouble string          // why there is none, for people
	rtt     time.Duration
	heard   time.Time // when it said something last
	agents  int
	links   int

	attached map[identity.ID]*attachment // what it said; nil: nothing, or it was lost
	ghosts   map[identity.ID]*attachment // what it said before it was lost
	until    time.Time                   // when ghosts are forgotten

	standby      *tunnel.Relay // nil: none
	standbyAt    time.Time
	wantsStandby bool
	legs         map[*Leg]struct{}
	hops         limit.Counts[struct{}]
}

// New makes the links of a hub. They need not be run where a hub is alone.
func New(c Config) (*Links, error) {
	c.Ping = cmp.Or(c.Ping, pingTime)
	c.Silent = cmp.Or(c.Silent, silentTime)
	if c.Lookup == nil {
		c.Lookup = net.DefaultResolver.LookupNetIP
	}
	l := &Links{
		c: c, woken: make(chan struct{}, 1), own: c.Own, said: map[string]string{},
		hubs: map[identity.ID]*hub{}, feeds: map[identity.ID]*feed{}, left: map[identity.ID]left{},
	}
	if err := l.sign(); err != nil {
		return nil, err
	}
	for _, doc := range c.Known {
		l.learn(doc) // one that is no longer good is forgotten so
	}
	return l, nil
}

// sign signs the hub's own record anew.
func (l *Links) sign() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own.Draining = l.draining
	l.own.Certificate = l.c.Certificate().Certificate[0]
	l.own.Time = max(l.own.Time+1, unixtime.MillisOf(l.c.Verifier.Clock().Now()))
	doc, err := identity.SignHubRecord(l.own, l.c.Key)
	if err != nil {
		return err
	}
	l.ownDoc = doc
	for _, f := range l.feeds {
		f.tellHub(l.own.ID)
	}
	return nil
}

// Renewed says that the hub has a new certificate.
func (l *Links) Renewed() {
	if err := l.sign(); err != nil {
		l.c.Log.Error("cannot sign the hub's record", "err", err)
	}
}

// Drain tells other hubs that this one is about to end: they send no more paths.
func (l *Links) Drain() {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	l.Renewed()
}

// Run keeps the links until ctx ends, and returns when all that it started has ended.
func (l *Links) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	defer l.end()
	for _, address := range l.c.Peers {
		running.Go(func() { l.seek(ctx, address) })
	}
	tick := time.NewTicker(l.c.Silent / 4)
	defer tick.Stop()
	for {
		for _, h := range l.unkept() {
			ctx, forget := context.WithCancel(ctx)
			if l.begin(h, forget) {
				running.Go(func() { l.keep(ctx, h) })
			} else {
				forget()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-l.woken:
		case now := <-tick.C:
			l.watch(now)
		}
	}
}

// unkept returns the hubs to which nobody keeps a link yet.
func (l *Links) unkept() (hubs []*hub) {
	l.mu.Lock()
	for _, h := range l.hubs {
		if h.forget == nil {
			hubs = append(hubs, h)
		}
	}
	l.mu.Unlock()
	return hubs
}

func (l *Links) begin(h *hub, forget context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hubs[h.id] != h {
		return false
	}
	h.forget = forget
	return true
}

// end closes what [Links.Run] leaves behind.
func (l *Links) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hubs {
		if h.session != nil {
			h.session.Close()
		}
		l.cutLocked(h)
		if h.forget != nil {
			h.forget()
		}
	}
	for _, f := range l.feeds {
		f.end()
	}
}

// wake makes Run look for hubs without a goroutine.
func (l *Links) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// watch gives up hubs that are silent.
func (l *Links) watch(now time.Time) {
	var lost []identity.ID
	l.mu.Lock()
	for _, h := range l.hubs {
		if h.ghosts != nil && now.After(h.until) {
			h.ghosts = nil
		}
		if now.Sub(h.heard) < l.c.Silent {
			continue
		}
		if h.session != nil {
			h.session.Close() // its goroutine dials again
		}
		if h.attached != nil {
			h.attached, h.ghosts, h.until = nil, h.attached, now.Add(ghostTime)
			l.cutLocked(h)
			lost = append(lost, h.id)
		}
	}
	l.mu.Unlock()
	for _, id := range lost {
		l.metrics.Lost.Add(1)
		l.c.Log.Warn("a hub is silent: what it told is forgotten, and what goes through it is cut", "hub", id)
		l.c.Host.Lost(id)
	}
}

// pauseAround waits for about d, or until wake has a token, and reports false if ctx ended before.
func pauseAround(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	return pause.OrWake(ctx, d/2+rand.N(d), wake)
}
