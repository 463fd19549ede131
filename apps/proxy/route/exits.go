package route

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/exit"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Exits knows what the exits of the mesh advertise to this endpoint. It asks them when somebody wants to know, not on a
// timer, and remembers an answer for a few seconds.
//
//	look   -> which endpoints are exits (the mesh's directory), which answers are too old
//	run    -> asks those, in parallel, once for all who wait
//	look   <- the answers; an exit that keeps silent is not waited for twice
type Exits struct {
	mesh   apps.Mesh
	self   func() (exit.Advertised, error) // what this endpoint offers its own user
	wanted chan identity.ID                // unbuffered, never closed: exits to ask
	gone   chan struct{}                   // closed when run has ended

	// What is known is asked for again before a client is refused. A client in a loop must not make the mesh busy with
	// that: these are the tokens for it, by exit; "" is the directory.
	rechecks *limit.Buckets[identity.ID]
	failures balance.Failures // of the directory

	mu       sync.Mutex             // guards what follows
	known    map[identity.ID]*known // by exit
	listed   []apps.Endpoint        // the directory's last answer
	listedAt time.Time
}

// known is what is known about an exit. Guarded by exits.mu.
type known struct {
	answer *Advertised   // the last answer, nil if there is none or it was empty
	at     time.Time     // when the last answer came
	rtt    time.Duration // the shortest of the recent round trips; 0 if there was none
	err    error         // why there is no answer: the exit is in doubt, and only the patient wait for it
	tried  time.Time     // when the exit was last asked
	asked  chan struct{} // closed when the answer to the question under way is here; nil if there is none
}

// Advertised is what an exit told of itself. It does not change.
type Advertised struct {
	Targets    []reach.Pattern
	Exclusions []reach.Pattern
	Search     []string
}

// Candidate is an exit with a fresh answer, or with the reason why there is none.
type Candidate struct {
	apps.Endpoint
	Serves *Advertised
	RTT    time.Duration
	Err    error
}

const (
	answerFresh = 5 * time.Second         // so long an answer is used
	answerRenew = 2500 * time.Millisecond // an older answer is used, and a new one asked for
	askAgain    = time.Second             // between questions to an exit in doubt, unless somebody waits for it
	askTimeout  = 5 * time.Second         // so long an exit may think
	listFresh   = time.Second             // so long the list of exits is used
	maxExits    = 4096                    // that are remembered, at most
	maxAnswer   = 1 << 20                 // bytes of an answer: some 10,000 targets
	exitLabel   = "proxy/exit"            // in Endpoint.Offers of every exit
)

// NewExits makes what is known of exits; self is what this endpoint advertises as one.
func NewExits(m apps.Mesh, self func() (exit.Advertised, error)) *Exits {
	return &Exits{
		mesh: m, self: self, wanted: make(chan identity.ID), gone: make(chan struct{}), known: map[identity.ID]*known{},
		rechecks: limit.NewBuckets[identity.ID](limit.Rate{Burst: 50, PerSecond: 5}, maxExits),
	}
}

// Run asks exits until ctx ends.
func (e *Exits) Run(ctx context.Context) {
	defer close(e.gone)
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-e.wanted:
			asking.Go(func() { e.ask(ctx, id) })
		}
	}
}

// look returns the exits that are online and whose user is trusted. Answers older than fresh are asked for again.
// Exits that did not answer the last time are waited for only if patient: one unhealthy exit must not delay every
// connection through the others.
func (e *Exits) look(ctx context.Context, trusted func(user string) bool, fresh time.Duration, patient bool) ([]Candidate, error) {
	all, err := e.list(ctx, patient)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(ep apps.Endpoint) bool { return !trusted(ep.User) })
	for _, wait := range e.refresh(all, fresh, patient) {
		select {
		case <-wait:
		case <-e.gone:
			return nil, answer.Errorf(answer.Unavailable, "the proxy is closing")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return e.answers(all), nil
}

// All returns all exits that are online, whoever's they are, with what they say now.
func (e *Exits) All(ctx context.Context) ([]Candidate, error) {
	return e.look(ctx, func(string) bool { return true }, recheckAfter, true)
}

// list returns the exits of the mesh that can be reached. The result belongs to the caller.
func (e *Exits) list(ctx context.Context, anew bool) ([]apps.Endpoint, error) {
	e.mu.Lock()
	last, at := e.listed, e.listedAt
	e.mu.Unlock()
	fresh := time.Since(at) < listFresh
	if fresh && (!anew && len(last) > 0 || !e.rechecks.Take("", time.Now())) {
		return slices.Clone(last), nil
	}
	done, err := e.failures.Try("")
	if err != nil {
		return nil, err
	}
	all, err := e.mesh.Endpoints(ctx, apps.Filter{Offer: exitLabel})
	done(err)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(ep apps.Endpoint) bool { return !ep.Online && !ep.Local })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listed, e.listedAt = slices.Clone(all), time.Now()
	for id, k := range e.known {
		if k.asked == nil && !slices.ContainsFunc(all, func(ep apps.Endpoint) bool { return ep.ID == id }) {
			delete(e.known, id)
		}
	}
	return all, nil
}

// refresh sees to it that the endpoints whose answer is old are asked, and returns what to wait for.
func (e *Exits) refresh(all []apps.Endpoint, fresh time.Duration, patient bool) []<-chan struct{} {
	var waits []<-chan struct{}
	var ask []identity.ID
	e.mu.Lock()
	for _, ep := range all {
		k := e.known[ep.ID]
		if k == nil {
			k = &known{}
			e.known[ep.ID] = k
		}
		age := time.Since(k.at)
		good, doubt := k.answer != nil && age < fresh, k.err != nil && !patient
		if !good && !doubt && k.asked == nil && time.Since(k.tried) < recheckAfter && !e.rechecks.Take(ep.ID, time.Now()) {
			continue // it has just been asked, and it will not say anything else
		}
		if k.asked == nil && (!good || age > answerRenew) && !(doubt && time.Since(k.tried) < askAgain) {
			k.asked, k.tried = make(chan struct{}), time.Now()
			ask = append(ask, ep.ID)
		}
		if !good && !doubt {
			waits = append(waits, k.asked)
		}
	}
	e.mu.Unlock()
	for _, id := range ask {
		select {
		case e.wanted <- id:
		case <-e.gone:
		}
	}
	return waits
}

// answers returns what is known about the endpoints.
func (e *Exits) answers(all []apps.Endpoint) []Candidate {
	e.mu.Lock()
	var out []Candidate
	for _, ep := range all {
		c := Candidate{Endpoint: ep}
		if k := e.known[ep.ID]; k != nil {
			c.Serves, c.RTT, c.Err = k.answer, k.rtt, k.err
		}
		out = append(out, c)
	}
	e.mu.Unlock()
	return out
}

// ask puts the question to one exit and notes the answer.
func (e *Exits) ask(ctx context.Context, id identity.ID) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, rtt, err := e.query(ctx, id)

	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.known[id] // not nil: an exit that is being asked is not dropped
	close(k.asked)
	k.asked, k.err = nil, err
	if err != nil {
		k.answer = nil // a failure is not an answer that could be used again
		return
	}
	k.answer, k.at = m, time.Now()
	if k.rtt == 0 || rtt < k.rtt {
		k.rtt = rtt
	} else {
		k.rtt += (rtt - k.rtt) / 8 // the first answer may have waited for a session, a late one for the network
	}
}

// query asks one exit what it offers. rtt is how long it took to accept: one round trip on a warm session.
func (e *Exits) query(ctx context.Context, id identity.ID) (_ *Advertised, rtt time.Duration, _ error) {
	var o exit.Advertised
	if id == e.mesh.Self().ID {
		own, err := e.self()
		if err != nil {
			return nil, 0, err
		}
		return read(own), 0, nil
	}
	began := time.Now()
	err := ask(ctx, e.mesh, id, "proxy/targets", nil, &o, func() { rtt = time.Since(began) })
	if err != nil {
		return nil, 0, err
	}
	return read(o), rtt, nil
}

// read turns what a peer advertises into what is compared with destinations. Patterns that make no sense here, perhaps of a
// newer version, are left out.
func read(o exit.Advertised) *Advertised {
	m := &Advertised{Targets: readable(o.Targets), Exclusions: readable(o.Exclusions), Search: dns.SearchList(o.Search)}
	if len(m.Targets) == 0 {
		return nil
	}
	return m
}

func readable(texts []string) []reach.Pattern {
	var out []reach.Pattern
	for _, t := range texts {
		if p, err := reach.ParsePattern(t); err == nil {
			out = append(out, p)
		}
	}
	return reach.Distinct(out)
}

// Left forgets the exits of peers that have left the mesh.
func (e *Exits) Left(gone func(apps.Peer) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listed = slices.DeleteFunc(slices.Clone(e.listed), func(ep apps.Endpoint) bool {
		if !gone(peerOf(ep)) {
			return false
		}
		if k := e.known[ep.ID]; k != nil && k.asked == nil {
			delete(e.known, ep.ID)
		}
		return true
	})
}

// forget drops the answer of an exit that refused what it had offered.
func (e *Exits) forget(id identity.ID) {
	e.mu.Lock()
	if k := e.known[id]; k != nil {
		k.answer = nil
	}
	e.mu.Unlock()
}

// ask opens a flow to a path of an endpoint and reads the JSON answer into v. accepted, which may be nil, is called as
// soon as the endpoint has accepted.
func ask(ctx context.Context, m apps.Mesh, id identity.ID, path string, q map[string][]string, v any, accepted func()) error {
	c, err := m.Open(ctx, id, path, q)
	if err != nil {
		return err
	}
	defer c.Close()
	if accepted != nil {
		accepted()
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	b, err := io.ReadAll(io.LimitReader(c, maxAnswer+1))
	switch {
	case ctx.Err() != nil:
		return answer.Errorf(answer.Timeout, "endpoint %s did not answer in time", id)
	case err != nil:
		return answer.Errorf(answer.Broken, "endpoint %s: %v", id, err)
	case len(b) > maxAnswer:
		return answer.Errorf(answer.Internal, "endpoint %s: answer longer than %d bytes", id, maxAnswer)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("endpoint %s: %w", id, err)
	}
	return nil
}
