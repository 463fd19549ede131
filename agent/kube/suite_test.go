package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/agent/kube/cluster"
	"ztm/agent/kube/expose"
	"ztm/agent/kube/imports"
	"ztm/apps/appstest"
)

// suiteTimeout is how long anything may take. It ends only what fails.
const suiteTimeout = 3 * time.Minute

// suite is an API server, and what an agent makes of it. The agent reaches it through a front, which
// counts.
type suite struct {
	*authority
	kube   *Controller
	front  *httptest.Server
	revoke func() // ends the agent's token

	mu       sync.Mutex
	token    string          // guarded by mu
	set      map[string]bool // keys of the outbounds that the agent was told last; guarded by mu
	requests []string        // guarded by mu
	changed  chan struct{}   // closed and replaced when set is; guarded by mu
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{authority: newAuthority(t), changed: make(chan struct{})}
	s.token, s.revoke = s.issue(t)
	s.grant(t, true)
	s.front = httptest.NewServer(s.proxy())
	client, err := cluster.New(cluster.Config{Server: s.front.URL, Token: func() (string, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	pod := imports.Pod{Name: "ztm-0", Namespace: space, UID: "0a1b2c3d-0001", Addresses: []netip.Addr{netip.MustParseAddr("10.42.9.7")}}
	s.kube = New(Config{Client: client, Rules: expose.Rules{Prefix: "ztm.dev"}, Derive: s.derive, Log: slog.New(slog.DiscardHandler), Importing: Importing{
		First: 20000, Last: 20009, Rules: imports.Rules{Prefix: "ztm.dev", Allow: []string{"prod.*"}, Pod: pod},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.kube.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait(); s.front.CloseClientConnections(); s.front.Close() })
	return s
}

// proxy takes the agent's requests to the API server.
func (s *suite) proxy() http.Handler {
	proxy := &httputil.ReverseProxy{Transport: s.admin.Transport(), FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(s.admin.Base()) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		proxy.ServeHTTP(w, r)
	})
}

func (s *suite) derive(_ context.Context, set Set) (Refusals, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = map[string]bool{}
	for _, o := range set.Outbound {
		s.set[o.Key()] = true
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return Refusals{}, nil
}

// until waits for a set that is as it should be, and returns how long that took.
func (s *suite) until(t *testing.T, what string, good func(set map[string]bool) bool) time.Duration {
	t.Helper()
	began, late := time.Now(), time.NewTimer(suiteTimeout)
	defer late.Stop()
	for {
		s.mu.Lock()
		changed, ok := s.changed, s.set != nil && good(s.set)
		s.mu.Unlock()
		if ok {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("%s: not there: %v, ready: %v", what, s.names(), s.kube.Ready())
		}
	}
}

func (s *suite) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.set))
}

// has waits until the agent exposes some tunnels, and no others of those that are named.
func (s *suite) has(t *testing.T, what string, yes []string, no ...string) {
	t.Helper()
	took := s.until(t, what, func(set map[string]bool) bool {
		return !slices.ContainsFunc(yes, func(n string) bool { return !set[n] }) && !slices.ContainsFunc(no, func(n string) bool { return set[n] })
	})
	t.Logf("%s: %v", what, took.Round(time.Millisecond))
}

// eventually waits for what no set tells.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(suiteTimeout)
	defer late.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func (s *suite) namespace(t *testing.T, name, labels string) {
	t.Helper()
	s.apply(t, "/api/v1/namespaces/"+name, `{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{`+labels+`}}}`)
}

func (s *suite) service(t *testing.T, namespace, name, annotations, ports string) {
	t.Helper()
	s.apply(t, "/api/v1/namespaces/"+namespace+"/services/"+name, `{"apiVersion":"v1","kind":"Service","metadata":{"annotations":{`+annotations+`}},"spec":{"selector":{"app":"none"},"ports":[`+ports+`]}}`)
}

const (
	onePort  = `{"name":"http","port":80,"protocol":"TCP"}`
	twoPorts = onePort + `,{"name":"dns","port":53,"protocol":"UDP"}`
)

// TestAnAPIServerIsFollowed is one sentence for each part: what is written in the cluster is so in
// the mesh, whatever becomes of connections, tokens and rights meanwhile.
func TestAnAPIServerIsFollowed(t *testing.T) {
	appstest.Long(t)
	s := newSuite(t)
	t.Run("a Service is annotated, changed and deleted", s.changes)
	t.Run("a namespace exposes all, and no longer", s.labels)
	t.Run("a Service imports, and no longer", s.importing)
	t.Run("what changes while the connections are cut is seen", s.gap)
	t.Run("a token ends and another takes its place", s.rotation)
	t.Run("the right is taken away and comes back", s.refusal)
	t.Run("the account is deleted and made again", s.dismissal)
	t.Run("a thousand Services at once", s.thousand)
}

func (s *suite) changes(t *testing.T) {
	s.namespace(t, "suite-1", "")
	s.service(t, "suite-1", "other", `"ztm.dev/expose":"true"`, onePort)
	s.service(t, "suite-1", "web", `"ztm.dev/expose":"true"`, onePort)
	s.has(t, "annotated", []string{"tcp/suite-1.web", "tcp/suite-1.other"})
	s.service(t, "suite-1", "web", `"ztm.dev/expose":"true"`, twoPorts)
	s.has(t, "a port is added", []string{"tcp/suite-1.web", "tcp/suite-1.web.http", "udp/suite-1.web.dns"})
	s.service(t, "suite-1", "web", `"ztm.dev/expose":"true","ztm.dev/ports":"dns"`, twoPorts)
	s.has(t, "a port is chosen", []string{"udp/suite-1.web.dns"}, "tcp/suite-1.web.http")
	s.service(t, "suite-1", "web", "", onePort)
	s.has(t, "the annotation goes", []string{"tcp/suite-1.other"}, "tcp/suite-1.web", "udp/suite-1.web.dns")
	s.remove(t, "/api/v1/namespaces/suite-1/services/other")
	s.has(t, "deleted", nil, "tcp/suite-1.other")
}

func (s *suite) labels(t *testing.T) {
	s.namespace(t, "suite-2", "")
	s.service(t, "suite-2", "web", "", onePort)
	s.service(t, "suite-2", "hidden", `"ztm.dev/expose":"false"`, onePort)
	s.namespace(t, "suite-2", `"ztm.dev/expose":"all"`)
	s.has(t, "labelled", []string{"tcp/suite-2.web"}, "tcp/suite-2.hidden")
	s.namespace(t, "suite-2", "")
	s.has(t, "no label", nil, "tcp/suite-2.web")
	s.namespace(t, "suite-2", `"ztm.dev/expose":"all"`)
	s.has(t, "labelled again", []string{"tcp/suite-2.web"})
	s.remake(t)
}

// remake deletes a namespace and makes it again: what it was is gone.
func (s *suite) remake(t *testing.T) {
	const space = "/api/v1/namespaces/suite-2"
	for _, name := range []string{"web", "hidden"} {
		s.remove(t, space+"/services/"+name)
	}
	s.remove(t, space)
	s.has(t, "deleted", nil, "tcp/suite-2.web")
	eventually(t, "it is gone", func() error {
		err := s.admin.Do(t.Context(), http.MethodGet, space, nil, "", nil, nil)
		if cluster.CodeOf(err) == http.StatusNotFound {
			return nil
		}
		return fmt.Errorf("the namespace: %v", err)
	})
	s.namespace(t, "suite-2", "")
	s.service(t, "suite-2", "web", "", onePort)
	s.service(t, "suite-2", "seen", `"ztm.dev/expose":"true"`, onePort)
	s.has(t, "made again", []string{"tcp/suite-2.seen"}, "tcp/suite-2.web")
}

func (s *suite) importing(t *testing.T) {
	const path = "/api/v1/namespaces/suite-3/services/remote"
	s.namespace(t, "suite-3", "")
	s.apply(t, path, `{"apiVersion":"v1","kind":"Service","metadata":{"annotations":{"ztm.dev/import":"prod.web"}},"spec":{"clusterIP":"10.43.77.7","ports":[`+onePort+`]}}`)
	there := func(want bool) func() error {
		return func() error {
			err := s.admin.Do(t.Context(), http.MethodGet, "/apis/discovery.k8s.io/v1/namespaces/suite-3/endpointslices/remote-ztm-0a1b2c3d-4", nil, "", nil, nil)
			if (err == nil) == want {
				return nil
			}
			return fmt.Errorf("the slice is there: %v (%v); ready: %v", !want, err, s.kube.Ready())
		}
	}
	eventually(t, "imported", there(true))
	s.apply(t, path, `{"apiVersion":"v1","kind":"Service","spec":{"clusterIP":"10.43.77.7","ports":[`+onePort+`]}}`)
	eventually(t, "no longer imported", there(false))
	s.remove(t, path)
}

func (s *suite) gap(t *testing.T) {
	s.namespace(t, "suite-4", "")
	s.service(t, "suite-4", "stays", `"ztm.dev/expose":"true"`, onePort)
	s.service(t, "suite-4", "goes", `"ztm.dev/expose":"true"`, onePort)
	s.has(t, "before", []string{"tcp/suite-4.stays", "tcp/suite-4.goes"})
	for round := range 3 {
		s.front.CloseClientConnections()
		s.remove(t, "/api/v1/namespaces/suite-4/services/goes")
		name := fmt.Sprint("comes-", round)
		s.service(t, "suite-4", name, `"ztm.dev/expose":"true"`, onePort)
		s.has(t, "after a cut", []string{"tcp/suite-4.stays", "tcp/suite-4." + name}, "tcp/suite-4.goes")
	}
}

func (s *suite) rotation(t *testing.T) {
	s.namespace(t, "suite-5", "")
	s.revoke()
	fresh, revoke := s.issue(t)
	s.mu.Lock()
	s.token, s.revoke = fresh, revoke
	s.mu.Unlock()
	s.front.CloseClientConnections() // a watch outlives the token
	s.service(t, "suite-5", "web", `"ztm.dev/expose":"true"`, onePort)
	s.has(t, "with another token", []string{"tcp/suite-5.web"})
}

func (s *suite) refusal(t *testing.T) {
	s.grant(t, false)
	s.refused(t)
	s.grant(t, true)
	eventually(t, "let in again", s.kube.Ready)
}

// refused waits until the agent says that it is.
func (s *suite) refused(t *testing.T) {
	t.Helper()
	var cut time.Time
	eventually(t, "refused", func() error {
		if time.Since(cut) > 5*time.Second { // a watch outlives the right, which is known to be gone a little later
			s.front.CloseClientConnections()
			cut = time.Now()
		}
		if err := s.kube.Ready(); err == nil || !strings.Contains(err.Error(), "refused this account") {
			return fmt.Errorf("ready: %v", err)
		}
		return nil
	})
}

// dismissal ends with a new account of the same name, and a token of that.
func (s *suite) dismissal(t *testing.T) {
	s.dismiss(t)
	s.refused(t)
	fresh, revoke := s.issue(t)
	s.mu.Lock()
	s.token, s.revoke = fresh, revoke
	s.mu.Unlock()
	eventually(t, "let in again", s.kube.Ready)
}

func (s *suite) thousand(t *testing.T) {
	const many = 1000
	s.namespace(t, "suite-6", "")
	for i := range many {
		s.service(t, "suite-6", fmt.Sprint("s", i), "", onePort)
	}
	s.service(t, "suite-6", "seen", `"ztm.dev/expose":"true"`, onePort)
	s.has(t, "the watch has come to the end", []string{"tcp/suite-6.seen"})
	s.mu.Lock()
	s.requests = nil
	s.mu.Unlock()
	s.namespace(t, "suite-6", `"ztm.dev/expose":"all"`)
	took := s.until(t, "a thousand", func(set map[string]bool) bool {
		n := 0
		for name := range set {
			if strings.HasPrefix(name, "tcp/suite-6.s") {
				n++
			}
		}
		return n == many+1
	})
	s.mu.Lock()
	asked := slices.DeleteFunc(slices.Clone(s.requests), func(r string) bool { return strings.HasSuffix(r, "/events") })
	s.mu.Unlock()
	t.Logf("%d Services are tunnels after %v, with %d requests beside events", many, took.Round(time.Millisecond), len(asked))
	if len(asked) > 10 {
		t.Errorf("the agent asked %d times: %q", len(asked), asked)
	}
}
