package process

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Register is the programs that an app runs for peers. It decides who is admitted, logs what
// they run and ends all programs with the app. Make it with [NewRegister]. Methods may be called from
// any goroutine.
type Register struct {
	app      string     // static
	host     apps.Host  // static
	refusals *limit.Log // static: a peer without permission causes these lines

	mu      sync.Mutex
	entries map[*Entry]struct{}
	stopped bool
	running sync.WaitGroup // entries; no Add after stopped
}

// NewRegister makes a register. app is the name of the app in the command line.
func NewRegister(app string, h apps.Host) *Register {
	return &Register{app: app, host: h, refusals: limit.NewLog(h.Log), entries: map[*Entry]struct{}{}}
}

// Entry is a program of a peer: first only a place for it.
type Entry struct {
	ID    string // to return to it
	Peer  apps.Peer
	Since time.Time

	r       *Register
	session *Session // nil until Begin; guarded by r.mu
	config  Config   // guarded by r.mu
	ending  string   // why it must end as soon as it has begun; guarded by r.mu
}

// Info is an [Entry] for a listing.
type Info struct {
	ID       string        `json:"id"`
	User     string        `json:"user"`
	Peer     identity.ID   `json:"peer"`
	Since    time.Time     `json:"since"`
	Idle     apps.Duration `json:"idle"` // without input and output
	Account  apps.Bytes    `json:"account"`
	Program  apps.Bytes    `json:"program"`
	TTY      bool          `json:"tty"`
	Keep     bool          `json:"keep"`
	Attached bool          `json:"attached"`
}

// Admit checks a peer against the rules and reserves a place for its program. It must be called
// before anything is started or read. A refusal is an *[answer.Error]: whoever refuses the flow with
// it has it recorded, as all flows are.
func (r *Register) Admit(p apps.Peer, rules Rules) (*Entry, error) {
	err := rules.Admit(r.host.Mesh.Self(), r.app, p, r.host.Names)
	if err != nil {
		return nil, err
	}
	return r.reserve(p, rules.Limit())
}

// Open admits the peer of a flow, as [Register.Admit] does, and accepts the flow. Both are nil where
// that came to nothing: the flow was refused, or has ended.
func (r *Register) Open(f apps.Flow, rules Rules) (*Entry, *Conn) {
	e, err := r.Admit(f.Peer(), rules)
	if err != nil {
		f.Refuse(err)
		return nil, nil
	}
	conn, err := f.Accept()
	if err != nil {
		e.Release()
		return nil, nil
	}
	return e, Accepted(conn)
}

// Refuse gives back a place that no program was begun in, and says why: in the log, since the flow was
// accepted, and to the peer. It closes the flow. Lines of one peer within a second are counted instead.
func (e *Entry) Refuse(c *Conn, err error) {
	e.r.refusals.Warn("refused "+string(e.Peer.ID), e.r.app+" refused", "user", e.Peer.User, "peer", e.Peer.ID, "err", err)
	e.Release()
	c.Fail(err)
}

func (r *Register) reserve(p apps.Peer, most int) (*Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, answer.Errorf(answer.Unavailable, "%s is stopping on %s", r.app, r.host.Mesh.Self().Name)
	}
	if err := r.roomLocked(p, most); err != nil {
		return nil, err
	}
	var id [4]byte
	rand.Read(id[:])
	e := &Entry{ID: hex.EncodeToString(id[:]), Peer: p, Since: time.Now(), r: r}
	r.entries[e] = struct{}{}
	r.running.Add(1)
	return e, nil
}

// roomLocked returns nil if there is a place for one more program of the peer. Guests leave a quarter
// of the places to the endpoint's own user, and one guest leaves half of them to others. A limit of
// less than four is too small to be divided.
func (r *Register) roomLocked(p apps.Peer, most int) error {
	self := r.host.Mesh.Self()
	if len(r.entries) >= most {
		return answer.Errorf(answer.Limit, "%d programs already run on %s, which is its limit", len(r.entries), self.Name)
	}
	if p.User == self.User || most < 4 {
		return nil
	}
	guests, same := 0, 0
	for e := range r.entries {
		if e.Peer.User != self.User {
			guests++
		}
		if e.Peer.User == p.User {
			same++
		}
	}
	if same >= most/2 {
		return answer.Errorf(answer.Limit, "%d programs of user %q already run on %s, which is the most for one user", same, p.User, self.Name)
	}
	if guests >= most-most/4 {
		return answer.Errorf(answer.Limit, "%d programs of other users already run on %s, which is the most for them", guests, self.Name)
	}
	return nil
}

// Release gives back a place that no program was begun in.
func (e *Entry) Release() {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	delete(e.r.entries, e)
	e.r.running.Done()
}

// Run begins the program and serves the flow that asked for it, as [Session.Attach] does. It ends
// the entry in any case: at once if the program cannot be started, and else with the program. It
// closes the flow.
func (e *Entry) Run(cfg Config, c *Conn) {
	log := e.r.host.Log.With("session", e.ID, "user", e.Peer.User, "peer", e.Peer.ID)
	cfg.Ended = func(x Exit) { e.concluded(x, log) }
	s, err := Begin(cfg)
	if err != nil {
		e.Release()
		e.r.refusals.Warn("not started "+string(e.Peer.ID), e.r.app+" not started",
			"session", e.ID, "user", e.Peer.User, "peer", e.Peer.ID, "program", cfg.Program.Path, "account", cfg.Program.Account.Name, "err", err)
		c.Fail(err)
		return
	}
	log.Info(e.r.app+" started", "program", cfg.Program.Path, "account", cfg.Program.Account.Name,
		"tty", cfg.Program.TTY != nil, "keep", cfg.Keep)
	go e.await(s) // ends with the program; Wait waits for it
	if reason := e.r.began(e, s, cfg); reason != "" {
		s.End(reason)
	}
	s.Attach(c)
}

func (r *Register) began(e *Entry, s *Session, cfg Config) (ending string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.session, e.config = s, cfg
	return e.ending
}

// await holds up [Register.Wait] until nothing of the program is left.
func (e *Entry) await(s *Session) {
	<-s.Done()
	e.r.running.Done()
}

// concluded removes a program that has ended from the register, before its caller is informed.
func (e *Entry) concluded(x Exit, log *slog.Logger) {
	log.Info(e.r.app+" ended", "status", x.Status, "signal", x.Signal, "reason", x.Reason,
		"seconds", int(time.Since(e.Since).Seconds()))
	e.r.mu.Lock()
	delete(e.r.entries, e)
	e.r.mu.Unlock()
}

// Find returns the program with the ID that the peer may return to or end: one that it began
// itself, or any if it is of the endpoint's own user.
func (r *Register) Find(p apps.Peer, id string) (*Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.entries {
		if e.ID == id && e.session != nil && r.mayLocked(p, e) {
			return e.session, nil
		}
	}
	return nil, answer.Errorf(answer.NotFound, "%s has no session %q of yours", r.host.Mesh.Self().Name, id)
}

// mayLocked compares the whole peer, not the user alone: after an eviction the name can belong to
// another person.
func (r *Register) mayLocked(p apps.Peer, e *Entry) bool {
	return p == e.Peer || p.User == r.host.Mesh.Self().User
}

// List returns the programs that the peer may return to or end, the oldest first.
func (r *Register) List(p apps.Peer) []Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	var entries []*Entry
	for e := range r.entries {
		if e.session != nil && r.mayLocked(p, e) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *Entry) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID))
	})
	list := []Info{}
	for _, e := range entries {
		list = append(list, Info{
			ID: e.ID, User: e.Peer.User, Peer: e.Peer.ID, Since: e.Since.UTC().Truncate(time.Second),
			Idle: apps.Duration(e.session.Idle()), Account: apps.Bytes(e.config.Program.Account.Name),
			Program: apps.Bytes(e.config.Program.Path), TTY: e.config.Program.TTY != nil, Keep: e.config.Keep,
			Attached: e.session.Attached(),
		})
	}
	return list
}

// Enforce ends the flows and programs of peers that the rules no longer admit.
func (r *Register) Enforce(rules Rules) {
	self := r.host.Mesh.Self()
	banned := func(p apps.Peer) bool { return rules.Admit(self, r.app, p, r.host.Names) != nil }
	r.host.Cut(func(p apps.Peer, _ string) bool { return banned(p) })
	r.End("access was taken away", banned)
}

// End ends the programs of the peers for which the function says so.
func (r *Register) End(reason string, match func(apps.Peer) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.entries {
		if !match(e.Peer) {
			continue
		}
		e.ending = reason
		if e.session != nil {
			e.session.End(reason)
		}
	}
}

// Wait admits programs until ctx ends. Then it ends them all and returns when nothing of them is
// left.
func (r *Register) Wait(ctx context.Context) {
	<-ctx.Done()
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.End("the agent is stopping", func(apps.Peer) bool { return true })
	// A caller that does not read must not hold this up.
	late := time.AfterFunc(grace+time.Second, func() { r.host.Cut(func(apps.Peer, string) bool { return true }) })
	defer late.Stop()
	r.running.Wait()
}
