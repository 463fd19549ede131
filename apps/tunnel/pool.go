package tunnel

import (
	"maps"
	"slices"
	"sync"
	"time"

	"ztm/apps"
)

const (
	// restMin and restMax bound how long a choice that failed comes last: the rest doubles with every failure in a
	// row. One flow to a dead target costs a dial timeout, so that many flows must not find out one by one.
	restMin = time.Second
	restMax = 30 * time.Second
)

// pool remembers how the choices of a tunnel did: the targets of an outbound, the exits of an inbound. It is passive:
// it learns from the flows alone. The zero value is ready.
type pool struct {
	mu      sync.Mutex
	turn    int
	members map[string]*member
}

// member is one choice. All fields are guarded by pool.mu.
type member struct {
	active   int
	flows    int64
	failures int       // in a row
	rests    time.Time // until then it comes last
	err      string    // the last failure; empty after a success
}

// Health is how one target or exit does.
type Health struct {
	Name   string `json:"name"`
	Up     bool   `json:"up"`
	Active int    `json:"active"` // flows right now
	Flows  int64  `json:"flows"`  // flows since the agent started
	Error  string `json:"error,omitempty"`
}

// order returns the choices in the order in which a new flow should try them: round robin, and those that failed
// lately after all others.
func (p *pool) order(choices []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(choices) == 0 {
		return nil
	}
	turn := p.turn % len(choices)
	p.turn = turn + 1
	now := time.Now()
	order := make([]string, 0, len(choices))
	var resting []string
	for _, c := range slices.Concat(choices[turn:], choices[:turn]) {
		if m := p.members[c]; m != nil && now.Before(m.rests) {
			resting = append(resting, c)
		} else {
			order = append(order, c)
		}
	}
	return append(order, resting...)
}

// took notes that a choice has taken a flow. The caller calls the result when the flow is over.
func (p *pool) took(choice string) (over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.memberLocked(choice)
	m.active++
	m.flows++
	m.failures, m.rests, m.err = 0, time.Time{}, ""
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		m.active--
	}
}

// failed notes that a choice did not take a flow.
func (p *pool) failed(choice string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.memberLocked(choice)
	rest := restMin << min(m.failures, 10)
	m.failures++
	m.rests = time.Now().Add(min(rest, restMax))
	m.err = err.Error()
}

func (p *pool) memberLocked(choice string) *member {
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

// keep forgets the choices that are not in the list, unless a flow still runs on them.
func (p *pool) keep(choices []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, m := range p.members {
		if m.active == 0 && !slices.Contains(choices, c) {
			delete(p.members, c)
		}
	}
}

// health returns how each of the choices does; nil stands for all that were tried, sorted.
func (p *pool) health(choices []string) []Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	if choices == nil {
		choices = slices.Sorted(maps.Keys(p.members))
	}
	list := make([]Health, 0, len(choices))
	for _, c := range choices {
		h := Health{Name: c, Up: true}
		if m := p.members[c]; m != nil {
			h = Health{Name: c, Up: m.failures == 0, Active: m.active, Flows: m.flows, Error: m.err}
		}
		list = append(list, h)
	}
	return list
}

// retryable reports whether another choice may succeed where one failed with err.
func retryable(err error) bool {
	code := apps.CodeOf(err)
	return code != apps.BadRequest && code != apps.Limit
}
