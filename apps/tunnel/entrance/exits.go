package entrance

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/offer"
)

const (
	// exitsAge is how long an answer to "who offers this tunnel to me" serves new connections.
	exitsAge = 5 * time.Second
	// probeTimeout is how long another user's endpoint may take to say whether it allows this one.
	// The first time that takes a sealed session: seconds between two routers on a mobile network.
	probeTimeout = 10 * time.Second
	// probesAtOnce bounds the endpoints that are asked at the same time.
	probesAtOnce = 16
)

// exits finds the exits of an inbound that names none: the endpoints that offer its tunnel and
// belong to one user, who is this endpoint's own or allows it. Which user that is, is decided once:
// by the configuration, or else by what the first search finds, and then it is pinned. Another user
// who offers a tunnel of that name later gets none of its connections and stops none, not even
// while the right endpoint is offline.
type exits struct {
	mesh  apps.Mesh  // static
	state apps.State // static
	key   spec.Key   // static

	failures balance.Failures // of searches; its only key is ""

	mu      sync.Mutex
	of      string   // the user that the configuration names; may be empty
	changes int      // of that
	found   []string // IDs; never an empty or failed answer
	at      time.Time
	running *lookup // nil if none is under way
}

// lookup is one search, shared by the connections that wait for it.
type lookup struct {
	done  chan struct{} // closed when found and err are set
	found []string
	err   error
}

// find returns the IDs of the exits. An answer may be up to [exitsAge] old. A single failure is not
// remembered, so that a connection right after a tunnel was opened, or a permission given, finds
// it; a row of them is, see [balance.Failures].
func (e *exits) find(ctx context.Context) ([]string, error) {
	for joined := 0; ; joined++ {
		e.mu.Lock()
		if e.found != nil && time.Since(e.at) < exitsAge {
			defer e.mu.Unlock()
			return e.found, nil
		}
		l := e.running
		if l == nil {
			done, err := e.failures.Try("")
			if err != nil {
				e.mu.Unlock()
				return nil, err
			}
			l = &lookup{done: make(chan struct{})}
			e.running = l
			e.mu.Unlock()
			e.run(ctx, l)
			done(l.err)
			return l.found, l.err
		}
		e.mu.Unlock()

		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// The first search may have begun before this connection came; a second one has not.
		if l.err == nil || joined > 0 {
			return l.found, l.err
		}
	}
}

// forget makes the next find search anew.
func (e *exits) forget() {
	e.mu.Lock()
	e.found = nil
	e.mu.Unlock()
}

func (e *exits) run(ctx context.Context, l *lookup) {
	e.mu.Lock()
	changes := e.changes
	e.mu.Unlock()
	found, err := e.search(ctx)
	l.found, l.err = idList(found), err
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = nil
	if l.err == nil && changes == e.changes {
		if l.err = e.pinLocked(found); l.err == nil {
			e.found, e.at = l.found, time.Now()
		}
	}
	close(l.done)
}

// search returns the exits, which are one user's.
func (e *exits) search(ctx context.Context) ([]apps.Endpoint, error) {
	user, err := e.user()
	if err != nil {
		return nil, err
	}
	offered, err := e.mesh.Endpoints(ctx, apps.Filter{Offer: e.offer(), User: user})
	if err != nil {
		return nil, err
	}
	self := e.mesh.Self().User
	offered = e.having(ctx, offered, user, self)
	if user == "" && slices.ContainsFunc(offered, func(ep apps.Endpoint) bool { return ep.User == self }) {
		user = self // own endpoints need no permission, and no offer of others puts that in question
	}
	online := slices.DeleteFunc(slices.Clone(offered), func(ep apps.Endpoint) bool {
		return !ep.Online || user != "" && ep.User != user
	})
	switch {
	case len(online) == 0 && user == "":
		return nil, answer.Errorf(answer.NotFound, "no endpoint that is online offers tunnel %s", e.key)
	case len(online) == 0:
		return nil, answer.Errorf(answer.NotFound, "no endpoint of user %s that is online offers tunnel %s", user, e.key)
	case user == self:
		return online, nil
	}
	if online, err = e.allowing(ctx, online); err != nil {
		return nil, err
	}
	if users := usersOf(online); len(users) > 1 {
		slices.Sort(users)
		return nil, answer.Errorf(answer.Conflict, "tunnel %s is offered by the users %s: choose with --exits-of",
			e.key, strings.Join(users, " and "))
	}
	return online, nil
}

// having returns the endpoints that have the tunnel. Those that offer every name are asked. One of
// another user is asked if that user is meant, or if nobody offers the tunnel by its name: so its
// offer of everything gets in nobody's way.
func (e *exits) having(ctx context.Context, offered []apps.Endpoint, user, self string) []apps.Endpoint {
	var named, vague []apps.Endpoint
	for _, ep := range offered {
		if by, _ := offer.Has(ep.Offers, e.offer()); by {
			named = append(named, ep)
		} else if ep.Online {
			vague = append(vague, ep)
		}
	}
	users := append(usersOf(named), user, self)
	if len(named) > 0 {
		vague = slices.DeleteFunc(vague, func(ep apps.Endpoint) bool { return !slices.Contains(users, ep.User) })
	}
	answers := e.probeAll(ctx, vague)
	for i, ep := range vague {
		if answers[i] == nil || answer.CodeOf(answers[i]) == answer.Denied {
			named = append(named, ep)
		}
	}
	return named
}

// offer is how endpoints offer the tunnel.
func (e *exits) offer() string { return spec.AppName + "/" + e.key.String() }

func idList(list []apps.Endpoint) []string {
	var ids []string
	for _, ep := range list {
		ids = append(ids, string(ep.ID))
	}
	return ids
}

func usersOf(list []apps.Endpoint) []string {
	var users []string
	for _, ep := range list {
		if !slices.Contains(users, ep.User) {
			users = append(users, ep.User)
		}
	}
	return users
}

// allowing returns those of the endpoints that allow this one to use the tunnel, or why none does.
func (e *exits) allowing(ctx context.Context, offered []apps.Endpoint) ([]apps.Endpoint, error) {
	answers := e.probeAll(ctx, offered)
	var allowed []apps.Endpoint
	var refusal error
	for i, err := range answers {
		if err == nil {
			allowed = append(allowed, offered[i])
		} else {
			refusal = err
		}
	}
	if len(allowed) == 0 {
		return nil, refusal
	}
	return allowed, nil
}

// probeAll asks endpoints, and returns the answer of each.
func (e *exits) probeAll(ctx context.Context, list []apps.Endpoint) []error {
	answers := make([]error, len(list))
	slots := make(chan struct{}, probesAtOnce) // one element for each probe under way
	var probes sync.WaitGroup
	for i, ep := range list {
		slots <- struct{}{}
		probes.Go(func() {
			answers[i] = e.probe(ctx, ep.ID)
			<-slots
		})
	}
	probes.Wait()
	return answers
}

// probe asks an endpoint whether it would accept a flow of the tunnel.
func (e *exits) probe(ctx context.Context, id identity.ID) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c, err := e.mesh.Open(ctx, id, e.offer(), url.Values{spec.ProbeParam: {"1"}})
	if err != nil {
		return err
	}
	return c.Close()
}
