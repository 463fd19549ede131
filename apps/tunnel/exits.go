package tunnel

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/identity"
)

const (
	// exitsAge is how long an answer to "who offers this tunnel to me" serves new connections.
	exitsAge = 5 * time.Second
	// probeTimeout is how long another user's endpoint may take to say whether it allows this one.
	probeTimeout = 2 * time.Second
	// probesAtOnce bounds the endpoints that are asked at the same time.
	probesAtOnce = 16
	// probeParam is the parameter of a flow that only asks whether it would be allowed.
	probeParam = "probe"
)

// exits finds the exits of an inbound that names none: the endpoints that offer its tunnel and belong to its user or
// allow it. They must all belong to one user: who else offers a tunnel of that name shall not get its connections.
type exits struct {
	mesh apps.Mesh // static
	key  Key       // static

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
	offered, err := e.mesh.Endpoints(ctx, apps.Filter{Offer: appName + "/" + e.key.String(), Online: true})
	if err != nil {
		return nil, err
	}
	if len(offered) == 0 {
		return nil, apps.Errorf(apps.NotFound, "no endpoint that is online offers tunnel %s", e.key)
	}
	self := e.mesh.Self().User
	if slices.ContainsFunc(offered, func(ep apps.Endpoint) bool { return ep.User != self }) {
		if offered, err = e.allowing(ctx, offered); err != nil {
			return nil, err
		}
	}
	var ids, users []string
	for _, ep := range offered {
		ids = append(ids, string(ep.ID))
		if !slices.Contains(users, ep.User) {
			users = append(users, ep.User)
		}
	}
	if len(users) > 1 {
		slices.Sort(users)
		return nil, apps.Errorf(apps.Conflict, "tunnel %s is offered by the users %s: choose with --exits",
			e.key, strings.Join(users, " and "))
	}
	return ids, nil
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
