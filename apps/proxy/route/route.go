// Package route chooses where a client's connection leaves the mesh:
//
//  1. routes       the most specific --add-via or --add-direct that is about the destination decides
//  2. exits        of the own user and of trusted users: the most specific target, then the shortest round trip;
//     exits that serve it equally well are tried in turn
//  3. short names  an exit that serves the name with one of its search domains appended
//  4. catch-all    exits that serve "*" or the whole address space
//  5. default      refuse, or connect from here
package route

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/proxy/exit"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// openTimeout bounds the way to an exit and its own attempt to connect.
const openTimeout = reach.Timeout + 5*time.Second

// Router opens connections for the clients of this endpoint.
type Router struct {
	mesh     apps.Mesh
	table    func() *Table // in force
	exits    *Exits
	own      *exit.Exit       // this endpoint as an exit
	failures balance.Failures // of ways to exits, by ID
	here     *exit.Exit       // connections from here that no exit is asked about: the policy of direct connections
}

// NewRouter makes the router of an endpoint. own is this endpoint as an exit; here connects what no exit is asked about.
func NewRouter(mesh apps.Mesh, table func() *Table, e *Exits, own, here *exit.Exit) *Router {
	return &Router{mesh: mesh, table: table, exits: e, own: own, here: here}
}

// Open connects a client to d: network is "tcp", or "udp" for a connection that carries datagrams. It returns when
// the exit has connected. An error has the exit's own reason.
func (r *Router) Open(ctx context.Context, network string, d reach.Dest) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s := r.table()
	if rt, ok := s.routeOf(d); ok {
		return r.along(ctx, rt, network, d)
	}
	var c net.Conn
	err := r.choose(ctx, s, d, func(id identity.ID) (err error) {
		c, err = r.through(ctx, id, network, d)
		return err
	})
	none := unserved(err)
	switch {
	case none == nil:
		return c, plainError(err)
	case s.Open:
		return r.fromHere(ctx, network, d)
	case none.short != nil:
		return nil, plainError(none.short)
	}
	return nil, r.explain(ctx, s, d)
}

// explainTimeout is how long exits that will not be used may delay a refusal.
const explainTimeout = time.Second

// explain says why no exit serves d, and which one would if its user were trusted.
func (r *Router) explain(ctx context.Context, s *Table, d reach.Dest) error {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	// If it takes too long, there is less to say.
	all, _ := r.exits.look(ctx, func(string) bool { return true }, answerFresh, true)
	for _, c := range all {
		if s.Trusted(c.User) && c.Serves != nil && reach.Heaviest(c.Serves.Targets, d) >= 0 {
			return answer.Errorf(answer.Prohibited, "%s is excluded at endpoint %s", d.Text(), c.Name)
		}
	}
	for _, g := range groups(all, d) {
		for _, c := range all {
			if c.ID == g.exits[0] {
				return answer.Errorf(answer.NotFound, "no exit of yours serves %s; endpoint %s of user %s does, and can be used "+
					"after 'ztm proxy config --add-trust %s' or --add-via", d.Text(), c.Name, c.User, c.User)
			}
		}
	}
	return answer.Errorf(answer.NotFound, "no exit serves %s", d.Text())
}

// along opens a connection on a configured route.
func (r *Router) along(ctx context.Context, rt Route, network string, d reach.Dest) (net.Conn, error) {
	if rt.Exit == "" {
		return r.fromHere(ctx, network, d)
	}
	c, err := r.through(ctx, rt.Exit, network, d)
	return c, plainError(err)
}

// through opens a connection that leaves the mesh at an endpoint.
func (r *Router) through(ctx context.Context, id identity.ID, network string, d reach.Dest) (net.Conn, error) {
	if self := r.mesh.Self(); id == self.ID {
		c, _, err := r.own.Dial(ctx, peerOf(self), network, d)
		return c, err
	}
	done, err := r.failures.Try(string(id))
	if err != nil {
		return nil, err
	}
	open, path := r.mesh.Open, "proxy/tcp"
	if network == "udp" {
		open, path = r.mesh.OpenDatagrams, "proxy/udp"
	}
	c, err := open(ctx, id, path, url.Values{"target": {d.String()}})
	done(ofExit(err))
	return c, err
}

// ofExit returns err if it says that there is no way to the exit, nil if it says something about a destination.
func ofExit(err error) error {
	switch answer.CodeOf(err) {
	case answer.Unavailable, answer.Broken:
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// peerOf returns an endpoint as it would be known at an exit.
func peerOf(ep apps.Endpoint) apps.Peer {
	p := apps.Peer{ID: ep.ID, User: ep.User}
	if !ep.Admitted.IsZero() {
		p.Admitted = unixtime.Of(ep.Admitted)
	}
	return p
}

func (r *Router) fromHere(ctx context.Context, network string, d reach.Dest) (net.Conn, error) {
	c, _, err := r.here.Dial(ctx, peerOf(r.mesh.Self()), network, d)
	return c, err
}

// noExit is the error that no exit serves a destination.
type noExit struct {
	short error // what an exit said that serves it as a short name, nil if there is none
}

func (e *noExit) Error() string { return "no exit serves the destination" }

// unserved returns the noExit in err's chain, or nil.
func unserved(err error) *noExit {
	var none *noExit
	errors.As(err, &none)
	return none
}

// plainError gives the errors of contexts a code.
func plainError(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return answer.Errorf(answer.Timeout, "the exit did not answer within %s", openTimeout)
	case errors.Is(err, context.Canceled):
		return answer.Errorf(answer.Broken, "the client or the proxy went away")
	}
	return err
}

// choose calls use with one exit after the other, in the order of preference, until one does not pass the destination
// on, and returns the last error of use. The error is a *[noExit] if no exit serves d.
func (r *Router) choose(ctx context.Context, s *Table, d reach.Dest, use func(identity.ID) error) error {
	err := r.chooseAmong(ctx, s, d, answerFresh, false, use)
	if unserved(err) == nil || s.Open {
		return err
	}
	// Before it says no, it makes sure: an exit may have been slow, or have got a new target a moment ago.
	return r.chooseAmong(ctx, s, d, recheckAfter, true, use)
}

// offerRecheck is how old an answer may be that leads to a refusal.
const recheckAfter = 500 * time.Millisecond

func (r *Router) chooseAmong(ctx context.Context, s *Table, d reach.Dest, fresh time.Duration, patient bool, use func(identity.ID) error) error {
	all, err := r.exits.look(ctx, s.Trusted, fresh, patient)
	if err != nil {
		return err
	}
	none := &noExit{}
	for _, g := range groups(all, d) {
		passed := passes
		if g.by == BySearch {
			passed = unknown
		}
		err := r.tryEach(g.exits, use, passed)
		if g.by != BySearch || !unknown(err) {
			return err
		}
		none.short = err
	}
	return none
}

// tryEach calls use with each of the exits until one does not give an error that passes the destination on.
func (r *Router) tryEach(ids []identity.ID, use func(identity.ID) error, passed func(error) bool) (err error) {
	for _, id := range ids {
		if err = use(id); !passed(err) {
			break
		}
		if passes(err) { // it offered what it does not serve
			r.exits.forget(id)
		}
	}
	return err
}

// passes reports an error of an exit after which another exit may be asked: it is not about the destination.
func passes(err error) bool {
	switch answer.CodeOf(err) {
	case answer.Denied, answer.Prohibited, answer.NotFound, answer.Limit, answer.Unavailable, answer.Broken:
		return true
	}
	return false
}

// unknown reports an error of an exit that was asked for a short name and does not know it, or cannot say. An exit that
// knows the name and refuses it has the last word.
func unknown(err error) bool {
	code := answer.CodeOf(err)
	return code == answer.DNS || code != answer.Prohibited && passes(err)
}

// group is a number of exits, in the order in which they are tried.
type group struct {
	exits []identity.ID
	by    string // ByTarget, BySearch or ByCatchAll
}

// groups sorts the exits that serve d. A later group counts only if the earlier one is BySearch.
func groups(all []Candidate, d reach.Dest) []group {
	literal := ranked(all, func(m *Advertised) int { return m.weigh(d, false) })
	if len(literal) > 0 {
		return []group{{heaviestOf(literal), ByTarget}}
	}
	var out []group
	if short := ranked(all, func(m *Advertised) int { return m.weighShort(d) }); len(short) > 0 {
		// What the name is short for is not known before an exit resolves it: all of them are asked.
		out = append(out, group{idsOf(short), BySearch})
	}
	if rest := ranked(all, func(m *Advertised) int { return m.weigh(d, true) }); len(rest) > 0 {
		out = append(out, group{heaviestOf(rest), ByCatchAll})
	}
	return out
}

// rank is an exit and how specifically it serves a destination.
type rank struct {
	Candidate
	weight int
}

// ranked returns the exits with a positive weight: the heaviest first, and the nearest of equal ones.
func ranked(all []Candidate, weigh func(*Advertised) int) []rank {
	var out []rank
	for _, c := range all {
		if c.Serves == nil {
			continue
		}
		if w := weigh(c.Serves); w > 0 {
			out = append(out, rank{c, w})
		}
	}
	slices.SortStableFunc(out, func(a, b rank) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.RTT, b.RTT), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// heaviestOf returns the first exits, those that serve the destination equally well.
func heaviestOf(sorted []rank) []identity.ID {
	n := 0
	for n < len(sorted) && sorted[n].weight == sorted[0].weight {
		n++
	}
	return idsOf(sorted[:n])
}

func idsOf(list []rank) []identity.ID {
	ids := make([]identity.ID, 0, len(list))
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

// weigh returns the weight of the most specific target that is about d: among those that say where they lead or, with
// catchAll, among those that do not. It is -1 if there is none or d is excluded.
func (m *Advertised) weigh(d reach.Dest, catchAll bool) int {
	if reach.Excludes(m.Exclusions, d) {
		return -1
	}
	w := -1
	for _, t := range m.Targets {
		if t.CatchAll() == catchAll && t.Match(d) {
			w = max(w, t.Weight())
		}
	}
	return w
}

// certain is added to the weight of a short name that ends as a target does before the search domain.
const certain = 1 << 28

// weighShort is weigh for d with the exit's search domains appended. svc-a.svc is certain to be short for a target
// *.svc.cluster.local with the domain cluster.local. Other names are taken for short ones only if they have at most
// one dot: otherwise every name in the world would be short for something.
func (m *Advertised) weighShort(d reach.Dest) int {
	if d.Name == "" || d.Full {
		return -1
	}
	few := strings.Count(d.Name, ".") <= 1
	w := -1
	for _, domain := range m.Search {
		within := d.Within(domain)
		if reach.Excludes(m.Exclusions, within) {
			continue
		}
		for _, t := range m.Targets {
			switch {
			case t.CatchAll() || !t.Match(within):
			case t.Suffix != "."+domain && strings.HasSuffix(t.Suffix+t.Name, "."+domain):
				w = max(w, certain+t.Weight())
			case few:
				w = max(w, t.Weight())
			}
		}
	}
	return w
}
