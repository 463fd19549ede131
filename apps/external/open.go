package external

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/apps/external/contract"
	"ztm/apps/external/manifest"
	"ztm/apps/external/pages"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/loopback"
)

// The console opens the pages of an app at an origin of their own: this agent listens for them on
// loopback, for one browser, and no longer than they are looked at.

const (
	maxOpened  = 16               // listeners; one more ends the oldest
	openedTime = 10 * time.Minute // without a request
)

// Opening asks for the pages of an app.
type Opening struct {
	App      string      `json:"app"`                // "PROVIDER/NAME"
	Endpoint identity.ID `json:"endpoint,omitempty"` // where it is; "" is this one
	Page     string      `json:"page,omitempty"`     // path of the first page; "" is "/"
}

// Opened is where they are shown.
type Opened struct {
	URL string `json:"url"` // works once, in a browser of the machine of this agent
}

// listeners are the origins of apps that a browser looks at. The zero value is ready.
type listeners struct {
	serving sync.WaitGroup

	mu     sync.Mutex
	ends   []*context.CancelFunc // the oldest first; guarded by mu
	closed bool                  // guarded by mu
}

// open answers an [Opening].
func (a *App) open(r *http.Request, _ string) (any, error) {
	var o Opening
	if err := answer.Decode(r, maxBody, &o); err != nil {
		return nil, err
	}
	o.Endpoint, o.Page = cmp.Or(o.Endpoint, a.host.Mesh.Self().ID), cmp.Or(o.Page, "/")
	if err := manifest.CheckID(o.App); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if err := contract.CheckTarget(o.Page); err != nil {
		return nil, err
	}
	open := func(ctx context.Context) (net.Conn, error) {
		return a.host.Mesh.Open(ctx, o.Endpoint, Name+"/http/"+o.App, nil)
	}
	c, err := open(r.Context()) // what is wrong is said here, and not in the browser
	if err != nil {
		return nil, err
	}
	c.Close()
	ln, err := loopback.ListenApart()
	if err != nil {
		return nil, err
	}
	p := pages.New(ln.Addr(), open, o.Page)
	return Opened{p.Address()}, a.listeners.serve(ln, p, func(ctx context.Context, h http.Handler) {
		if err := loopback.Serve(ctx, ln, h, a.host.Log); err != nil {
			a.host.Log.Warn("the pages of an app are shown no longer", "app", o.App, "err", err)
		}
	})
}

// serve has serve serve h until nobody asks, or close is called.
func (l *listeners) serve(ln net.Listener, h http.Handler, serve func(context.Context, http.Handler)) error {
	ctx, end := context.WithCancel(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		end()
		ln.Close()
		return answer.Errorf(answer.Unavailable, "the agent is ending")
	}
	if len(l.ends) >= maxOpened {
		(*l.ends[0])()
		l.ends = l.ends[1:]
	}
	l.ends = append(l.ends, &end)
	l.serving.Go(func() {
		defer l.forget(&end)
		defer end()
		serve(ctx, untilIdle(ctx, end, h))
	})
	return nil
}

// forget is called when a listener has ended.
func (l *listeners) forget(end *context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.ends {
		if e == end {
			l.ends = append(l.ends[:i:i], l.ends[i+1:]...)
			return
		}
	}
}

// close ends all, and waits for them.
func (l *listeners) close() {
	l.mu.Lock()
	l.closed = true
	for _, end := range l.ends {
		(*end)()
	}
	l.mu.Unlock()
	l.serving.Wait()
}

// untilIdle calls end when no request runs, and none has run for [openedTime].
func untilIdle(ctx context.Context, end func(), h http.Handler) http.Handler {
	var mu sync.Mutex
	running := 0
	idle := time.AfterFunc(openedTime, end)
	context.AfterFunc(ctx, func() { idle.Stop() })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if running++; running == 1 {
			idle.Stop()
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			if running--; running == 0 && ctx.Err() == nil {
				idle.Reset(openedTime)
			}
		}()
		h.ServeHTTP(w, r)
	})
}
