package tunnel

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

const (
	// exitsAge is how long an answer to "who offers this tunnel to me" serves new connections.
	exitsAge = 5 * time.Second
	// probeTimeout is how long another user's endpoint may take to say whether it allows this one. The first time that takes a
	// sealed session: seconds between two routers on a mobile network.
	probeTimeout = 10 * time.Second
	// probesAtOnce bounds the endpoints that are asked at the same time.
	probesAtOnce = 16
	// probeParam is the parameter of a flow that only asks whether it would be allowed.
	probeParam = "probe"
)

// exits finds the exits of an inbound that names none: the endpoints that offer its tunnel and belong to its user or
// allow it. They must all belong to one user, and to the same user as before unless that is the inbound's own: who else
// offers a tunnel of that name shall not get its connections, not even while the right endpoint is offline.
type exits struct {
	mesh  apps.Mesh  // static
	state apps.State // static
	key   Key        // static

	mu      sync.Mutex
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

// find returns the IDs of the exits. An answer may be up to [exitsAge] old, a failure never is: a connection right
// after a tunnel was opened, or a permission given, finds it.
func (e *exits) find(ctx context.Context) ([]string, error) {
	for joined := 0; ; joined++ {
		e.mu.Lock()
		if e.found != nil && time.Since(e.at) < exitsAge {
			defer e.mu.Unlock()
			return e.found, nil
		}
		l := e.running
		if l == nil {
			l = &lookup{done: make(chan struct{})}
			e.running = l
			e.mu.Unlock()
			e.run(ctx, l)
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
	defer e.mu.Unlock()
	e.found = nil
}

func (e *exits) run(ctx context.Context, l *lookup) {
	l.found, l.err = e.search(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = nil
	if l.err == nil {
		e.found, e.at = l.found, time.Now()
	}
	close(l.done)
}

func (e *exits) search(ctx context.Context) ([]string, error) {
	offered, err := e.mesh.Endpoints(ctx, apps.Filter{Offer: appName + "/" + e.key.String()})
	if err != nil {
		return nil, err
	}
	self := e.mesh.Self().User
	mine := func(ep apps.Endpoint) bool { return ep.User == self }
	online := slices.DeleteFunc(slices.Clone(offered), func(ep apps.Endpoint) bool { return !ep.Online })
	if len(online) == 0 {
		return nil, answer.Errorf(answer.NotFound, "no endpoint that is online offers tunnel %s", e.key)
	}
	if !slices.ContainsFunc(online, func(ep apps.Endpoint) bool { return !mine(ep) }) {
		return idList(online), e.stay(self, self)
	}
	if online, err = e.allowing(ctx, online); err != nil {
		return nil, err
	}
	users := usersOf(online)
	if slices.ContainsFunc(offered, mine) && !slices.Contains(users, self) {
		users = append(users, self) // whose endpoint is offline
	}
	if len(users) > 1 {
		slices.Sort(users)
		return nil, answer.Errorf(answer.Conflict, "tunnel %s is offered by the users %s: choose with --exits",
			e.key, strings.Join(users, " and "))
	}
	return idList(online), e.stay(users[0], self)
}

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

// stayPrefix is where the user is saved whose exits an inbound found: "exits/tcp/web".
const stayPrefix = "exits/"

// stay returns nil if the inbound may use the exits of a user: the one whose exits it found at first, or its own.
func (e *exits) stay(user, self string) error {
	var before string
	if _, err := e.state.Load(stayPrefix+e.key.String(), &before); err != nil {
		return err
	}
	switch before {
	case user:
		return nil
	case "":
	default:
		if user != self {
			return answer.Errorf(answer.Conflict, "tunnel %s was offered by user %s and now is by user %s: "+
				"open the inbound again, or choose with --exits", e.key, before, user)
		}
	}
	return e.state.Save(stayPrefix+e.key.String(), user)
}

// reset forgets whose exits were found.
func (e *exits) reset() error {
	e.forget()
	return e.state.Delete(stayPrefix + e.key.String())
}

// allowing returns those of the endpoints that allow this one to use the tunnel, or why none does.
func (e *exits) allowing(ctx context.Context, offered []apps.Endpoint) ([]apps.Endpoint, error) {
	answers := make([]error, len(offered))
	slots := make(chan struct{}, probesAtOnce) // one element for each probe under way
	var probes sync.WaitGroup
	for i, ep := range offered {
		slots <- struct{}{}
		probes.Go(func() {
			answers[i] = e.probe(ctx, ep.ID)
			<-slots
		})
	}
	probes.Wait()
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

// probe asks an endpoint whether it would accept a flow of the tunnel.
func (e *exits) probe(ctx context.Context, id identity.ID) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c, err := e.mesh.Open(ctx, id, appName+"/"+e.key.String(), url.Values{probeParam: {"1"}})
	if err != nil {
		return err
	}
	return c.Close()
}
