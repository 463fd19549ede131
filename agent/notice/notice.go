// Package notice tells the owner of an endpoint what they would want to know at once:
//
//	look, each minute: endpoints of the owner, certificate, evictions ─┐
//	the audit log: refusals again and again, targets of the owner ─────┤
//	the policy: a group whose use is announced ───────────────────────┴> tell: once in ten minutes -> queue -> command, webhook
//
// A command gets the notice as JSON on its standard input and as variables of its environment: no
// text of others is ever part of a command line. What is slow costs notices, and nothing waits for
// it.
package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ztm/agent/audit"
	"ztm/agent/feature"
	"ztm/agent/webhook"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// Settings say who is told. The zero value is nobody.
type Settings struct {
	Command []string `json:"command,omitempty"` // an absolute path, and arguments
	Webhook string   `json:"webhook,omitempty"`
	Secret  string   `json:"secret,omitempty"` // of the webhook; shown to nobody
}

// Check refuses what cannot be.
func (s Settings) Check() error {
	if len(s.Command) > 0 && !filepath.IsAbs(s.Command[0]) {
		return fmt.Errorf("the command %q has no absolute path", s.Command[0])
	}
	if len(s.Command) > maxArgs {
		return fmt.Errorf("the command has %d words, at most %d are possible", len(s.Command), maxArgs)
	}
	if s.Webhook == "" {
		return nil
	}
	if !feature.Audit {
		return errors.New("this ztm was built without webhooks: it tells a command")
	}
	return webhook.Hook{URL: s.Webhook, Secret: s.Secret}.Check()
}

func (s Settings) none() bool { return len(s.Command) == 0 && s.Webhook == "" }

// Limits of what is told.
const (
	maxArgs   = 32
	again     = 10 * time.Minute // before the same is told again
	maxKnown  = 1024             // things that are remembered as told
	maxKey    = 512              // bytes of what is remembered of one
	maxQueue  = 64
	lookEvery = time.Minute
	burst     = 20                 // refusals of one user within lookEvery
	soon      = 7 * 24 * time.Hour // before the end of the certificate, which is renewed long before
)

// Kind says what a notice is about.
type Kind string

// The kinds.
const (
	Up          Kind = "endpoint-up"
	Down        Kind = "endpoint-down"
	Evicted     Kind = "evicted"
	TargetUp    Kind = "target-up"
	TargetDown  Kind = "target-down" // a flow to it has failed
	Group       Kind = "group"       // one whose use is announced was changed or used
	Certificate Kind = "certificate" // it ends soon: renewal fails
	Refused     Kind = "refused"     // a user is refused again and again
	Test        Kind = "test"
)

// Notice is what is told.
type Notice struct {
	Time     time.Time `json:"time"`
	Mesh     string    `json:"mesh"`
	Endpoint string    `json:"endpoint"` // that tells it
	Kind     Kind      `json:"kind"`
	About    string    `json:"about"` // an endpoint or a user
	Text     string    `json:"text"`  // for people
}

// Config is what a Teller needs of the membership that it belongs to. All of it is set.
type Config struct {
	Log       *slog.Logger
	Self      func() apps.Endpoint
	Mesh      string
	Endpoints func(context.Context) ([]apps.Endpoint, error) // of the owner
	Ends      func() time.Time                               // of this endpoint's certificate; zero: it is not to be renewed
	Evictions func() []identity.Eviction
	Target    func(app, path string) bool // whether a flow is to something that the owner has named
	Now       func() time.Time
}

// Teller is made with [New]. Its methods may be called from any goroutine.
type Teller struct {
	Config
	queue chan Notice   // never closed
	wake  chan struct{} // settings changed, capacity 1

	mu      sync.Mutex
	set     Settings                   // guarded by mu
	told    map[string]time.Time       // by kind, subject and what; guarded by mu
	down    map[string]bool            // targets that could not be reached when that was tried last; guarded by mu
	refused map[string]int             // refusals by user, since the last look; guarded by mu
	online  map[identity.ID]bool       // of the last look; nil before; guarded by mu
	evicted map[identity.Eviction]bool // of the last look; nil before; guarded by mu
}

// New makes a Teller that tells nobody yet.
func New(c Config) *Teller {
	return &Teller{Config: c, queue: make(chan Notice, maxQueue), wake: make(chan struct{}, 1), told: map[string]time.Time{}, refused: map[string]int{}, down: map[string]bool{}}
}

// Settings returns those in force.
func (t *Teller) Settings() Settings {
	t.mu.Lock()
	set := t.set
	t.mu.Unlock()
	return set
}

// Use puts settings in force, which were checked.
func (t *Teller) Use(s Settings) {
	t.mu.Lock()
	t.set = s
	t.online, t.evicted = nil, nil // what happened while nobody listened is no news
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Seen takes a line of the audit log into account. It does not wait.
func (t *Teller) Seen(l audit.Line) {
	if t.Target(l.App, l.Target) {
		t.seenTarget(l)
	}
	if l.Event != audit.Refused || l.Reason != audit.Denied {
		return
	}
	t.mu.Lock()
	if _, known := t.refused[l.User]; known || len(t.refused) < maxKnown {
		t.refused[l.User]++
	}
	t.mu.Unlock()
}

// seenTarget tells that a target has gone, or has come back.
func (t *Teller) seenTarget(l audit.Line) {
	about := l.App + " " + l.Target
	down := l.Result == audit.No && l.Reason == audit.Unavailable
	t.mu.Lock()
	was := t.down[about]
	switch {
	case down && len(t.down) < maxKnown:
		t.down[about] = true
	case l.Result == audit.OK:
		delete(t.down, about)
	}
	t.mu.Unlock()
	switch {
	case down && !was:
		t.Tell(TargetDown, about, "%s cannot be reached", about)
	case was && l.Result == audit.OK:
		t.Tell(TargetUp, about, "%s is reached again", about)
	}
}

// Tell tells something, unless the same was told a short time ago: something of that kind about that.
func (t *Teller) Tell(kind Kind, about, format string, args ...any) {
	t.tell(kind, about, "", fmt.Sprintf(format, args...))
}

// TellGroup tells what happens to a group whose use is announced, unless that was told a short time
// ago. more says the same more exactly. It is no part of what is remembered: a peer may choose it.
func (t *Teller) TellGroup(group, what, more string) {
	t.tell(Group, group, what[:min(len(what), maxKey)], strings.TrimSpace("group "+group+": "+what+" "+more))
}

// tell tells a text, unless one was told a short time ago of that kind, about that, and of what.
func (t *Teller) tell(kind Kind, about, what, text string) {
	now := t.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	key := string(kind) + " " + about + " " + what
	if last, told := t.told[key]; t.set.none() || told && now.Sub(last) < again && !now.Before(last) {
		return
	}
	for k, at := range t.told {
		if now.Sub(at) >= again {
			delete(t.told, k)
		}
	}
	if len(t.told) >= maxKnown {
		return
	}
	t.told[key] = now
	select {
	case t.queue <- Notice{now.UTC(), t.Mesh, t.Self().Name, kind, about, text}:
	default:
	}
}

// Run looks and tells until ctx ends.
func (t *Teller) Run(ctx context.Context) {
	var told sync.WaitGroup
	told.Go(func() { t.deliver(ctx) })
	defer told.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if !t.Settings().none() {
			t.look(ctx)
		}
		select {
		case <-tick.C:
		case <-t.wake:
		case <-ctx.Done():
			return
		}
	}
}

// look finds what is new.
func (t *Teller) look(ctx context.Context) {
	end := t.Ends()
	if left := end.Sub(t.Now()); !end.IsZero() && left < soon {
		t.Tell(Certificate, t.Self().Name, "the certificate of this endpoint ends in %v: it was not renewed", left.Round(time.Hour))
	}
	t.lookEvictions()
	t.lookRefusals()
	ctx, cancel := context.WithTimeout(ctx, lookEvery/2)
	defer cancel()
	if eps, err := t.Endpoints(ctx); err == nil { // else the hub is away, and nobody knows who is online
		t.lookOnline(eps)
	}
}

func (t *Teller) lookOnline(eps []apps.Endpoint) {
	now := map[identity.ID]bool{}
	for _, ep := range eps {
		if !ep.Unknown {
			now[ep.ID] = ep.Online
		}
	}
	t.mu.Lock()
	before := t.online
	t.online = now
	t.mu.Unlock()
	for _, ep := range eps {
		was, known := before[ep.ID]
		switch is, there := now[ep.ID]; {
		case !there || ep.Local || !known && (before == nil || !is) || known && was == is:
		case is:
			t.Tell(Up, ep.Name, "endpoint %s is online", ep.Name)
		default:
			t.Tell(Down, ep.Name, "endpoint %s is offline", ep.Name)
		}
	}
}

func (t *Teller) lookEvictions() {
	now := map[identity.Eviction]bool{}
	all := t.Evictions()
	for _, e := range all {
		now[e] = true
	}
	t.mu.Lock()
	before := t.evicted
	t.evicted = now
	t.mu.Unlock()
	for _, e := range all {
		if before == nil || before[e] {
			continue
		}
		about := e.User
		if about == "" {
			about = e.Name
		}
		t.Tell(Evicted, about, "%s", strings.TrimSuffix(about+" was evicted: "+e.Reason, ": "))
	}
}

func (t *Teller) lookRefusals() {
	t.mu.Lock()
	refused := t.refused
	t.refused = map[string]int{}
	t.mu.Unlock()
	for user, n := range refused {
		if n >= burst {
			t.Tell(Refused, user, "user %s was refused %d times within a minute: see ztm audit --refused --user %s", user, n, user)
		}
	}
}
