// Package balance chooses: which of several targets or exits a new flow tries first, by how they
// share the flows and by how each of them did.
package balance

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// coolDownMin and coolDownMax bound how long a choice that failed comes last: the time doubles
	// with every failure in a row. One flow to a dead target costs a dial timeout, so that many
	// flows must not find out one by one.
	coolDownMin = time.Second
	coolDownMax = 30 * time.Second
)

// Policy is how choices share the flows. The empty value means [RoundRobin].
type Policy string

// The ways to balance.
const (
	RoundRobin Policy = "round-robin" // one after the other
	LeastConn  Policy = "least-conn"  // the one with the fewest flows
	Source     Policy = "source"      // always the same one for the same client address, as long as it is up
)

// Validate returns an error if the policy is none of those below.
func (b Policy) Validate() error {
	switch b {
	case "", RoundRobin, LeastConn, Source:
		return nil
	}
	return fmt.Errorf("%q is not %s, %s or %s", string(b), RoundRobin, LeastConn, Source)
}

// Pool remembers how the choices did: the targets of an outbound, the exits of an inbound. It
// learns from the flows and, where there are any, from checks. The zero value is ready, and all
// methods may be called from any goroutine.
type Pool struct {
	mu      sync.Mutex
	turn    int
	members map[string]*member
}

// member is one choice. All fields are guarded by Pool.mu.
type member struct {
	active    int
	flows     int64
	checked   bool      // there was a check
	failures  int       // in a row
	coolDown  time.Time // until then it comes last
	unhealthy bool      // its last check failed
	err       string    // the last failure; empty after a success
}

// State is what is known of a choice.
type State string

// The states.
const (
	Up      State = "up"
	Down    State = "down"
	Untried State = "untried" // no flow and no check has tried it since the agent started
)

// Health is how one target or exit does.
type Health struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Active int    `json:"active"` // flows right now
	Flows  int64  `json:"flows"`  // flows since the agent started
	Error  string `json:"error,omitempty"`
}

// Order returns the choices in the order in which a new flow should try them: as the policy says,
// but those that failed lately after all others. The others share the turns of those. source is
// whom [Source] looks at.
func (p *Pool) Order(b Policy, choices []string, source string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var good, bad []string
	for _, c := range choices {
		if m := p.members[c]; m != nil && (m.unhealthy || now.Before(m.coolDown)) {
			bad = append(bad, c)
		} else {
			good = append(good, c)
		}
	}
	turn := p.turn
	p.turn++
	return append(p.shareLocked(b, good, source, turn), p.shareLocked(b, bad, source, turn)...)
}

// shareLocked orders choices that are as good as each other.
func (p *Pool) shareLocked(b Policy, choices []string, source string, turn int) []string {
	if len(choices) < 2 {
		return choices
	}
	turn %= len(choices)
	list := slices.Concat(choices[turn:], choices[:turn])
	switch b {
	case LeastConn:
		slices.SortStableFunc(list, func(x, y string) int { return p.activeLocked(x) - p.activeLocked(y) })
	case Source:
		slices.SortFunc(list, func(x, y string) int { return bytes.Compare(weight(source, y), weight(source, x)) })
	}
	return list
}

func (p *Pool) activeLocked(choice string) int {
	if m := p.members[choice]; m != nil {
		return m.active
	}
	return 0
}

// weight orders the choices for a source so that one choice more or less moves no source between
// the others ("rendezvous hashing").
func weight(source, choice string) []byte {
	sum := sha256.Sum256([]byte(source + "\x00" + choice))
	return sum[:]
}

// Took notes that a choice has taken a flow. The caller calls the result when the flow is over.
func (p *Pool) Took(choice string) (over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.memberLocked(choice)
	m.active++
	m.flows++
	m.recoverLocked()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		m.active--
	}
}

// Failed notes that a choice did not take a flow. Many flows that fail at the same time are one
// failure: during the cool-down, further ones are ignored.
func (p *Pool) Failed(choice string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.memberLocked(choice)
	m.err = err.Error()
	if now := time.Now(); !now.Before(m.coolDown) {
		d := coolDownMin << min(m.failures, 10)
		m.failures++
		m.coolDown = now.Add(min(d, coolDownMax))
	}
}

// Checked notes the result of a check, and reports whether that is news. A first check that
// succeeds is none.
func (p *Pool) Checked(choice string, err error) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.memberLocked(choice)
	m.checked = true
	news = m.unhealthy != (err != nil)
	if m.unhealthy = err != nil; m.unhealthy {
		m.err = err.Error()
	} else {
		m.recoverLocked()
	}
	return news
}

// Unchecked forgets the results of checks. It is called when checks end.
func (p *Pool) Unchecked() {
	p.mu.Lock()
	for _, m := range p.members {
		if m.checked && m.failures == 0 {
			m.err = ""
		}
		m.checked, m.unhealthy = false, false
	}
	p.mu.Unlock()
}

func (m *member) recoverLocked() {
	m.failures, m.coolDown = 0, time.Time{}
	if !m.unhealthy {
		m.err = ""
	}
}

func (p *Pool) memberLocked(choice string) *member {
	if p.members == nil {
		p.members = map[string]*member{}
	}
	m := p.members[choice]
	if m == nil {
		m = &member{}
		p.members[choice] = m
	}
	return m
}

// Keep forgets the choices that are not in the list, unless a flow still runs on them.
func (p *Pool) Keep(choices []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, m := range p.members {
		if m.active == 0 && !slices.Contains(choices, c) {
			delete(p.members, c)
		}
	}
}

// Health returns how each of the choices does; nil stands for all that were tried, sorted.
func (p *Pool) Health(choices []string) []Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	if choices == nil {
		choices = slices.Sorted(maps.Keys(p.members))
	}
	list := make([]Health, 0, len(choices))
	for _, c := range choices {
		h := Health{Name: c, State: Untried}
		if m := p.members[c]; m != nil {
			h = Health{Name: c, State: m.stateLocked(), Active: m.active, Flows: m.flows, Error: m.err}
		}
		list = append(list, h)
	}
	return list
}

func (m *member) stateLocked() State {
	switch {
	case m.failures > 0 || m.unhealthy:
		return Down
	case m.flows > 0 || m.checked:
		return Up
	}
	return Untried
}
