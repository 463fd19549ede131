package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/agent/kube/expose"
	"ztm/agent/kube/imports"
	"ztm/agent/kube/kubetest"
	"ztm/apps/appstest"
)

// lab is an API server, and a controller that watches it.
type lab struct {
	*kubetest.Server
	kube      *Controller
	importing Importing

	mu      sync.Mutex
	set     []string  // keys of what the agent was told last; guarded by mu
	inbound []Inbound // and what to listen for; guarded by mu
	told    int       // how often; guarded by mu
	refused Refusals  // guarded by mu
	err     error     // guarded by mu
	offered bool      // what the mesh says of every tunnel, or why it says nothing; guarded by mu
	unknown error     // guarded by mu
}

func (l *lab) derive(_ context.Context, set Set) (Refusals, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return Refusals{}, l.err
	}
	l.told++
	l.set = []string{}
	for _, o := range set.Outbound {
		l.set = append(l.set, o.Key())
	}
	l.inbound = set.Inbound
	return l.refused, nil
}

// offers has the mesh say whether tunnels are offered.
func (l *lab) offers(yes bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offered, l.unknown = yes, err
}

// listening returns what the agent was told to listen for last.
func (l *lab) listening() []Inbound {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inbound
}

// times returns how often the agent was told.
func (l *lab) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

// answers has the agent refuse some of what it is told, or all of it.
func (l *lab) answers(r Refusals, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused, l.err = r, err
}

// inLab runs a test in a bubble of its own.
func inLab(t *testing.T, namespaces []string, test func(t *testing.T, l *lab)) {
	t.Helper()
	inLabWith(t, func(c *Config) { c.Namespaces = namespaces }, test)
}

// inLabWith is inLab with a change of the configuration.
func inLabWith(t *testing.T, change func(*Config), test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{Server: &kubetest.Server{}, offered: true}
		l.importing = Importing{First: 20000, Last: 20009, Replicas: "ztm/ztm", Resolve: func(_ context.Context, name string) (string, error) { return "id-of-" + name, nil },
			Offered: func(context.Context, string, string) (bool, error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.offered, l.unknown
			},
			Rules: imports.Rules{Prefix: "ztm.dev", Allow: []string{"prod.*"}, Pod: imports.Pod{Name: "ztm-0", Namespace: "ztm", UID: "own-uid-0001", Addresses: []netip.Addr{netip.MustParseAddr("10.42.0.7")}}}}
		wire := kubetest.Start(l)
		client, err := cluster.New(cluster.Config{Server: "http://cluster", Dial: wire.Dial, Token: func() (string, error) { return "secret", nil }})
		if err != nil {
			t.Fatal(err)
		}
		config := Config{Client: client, Exports: true, Rules: expose.Rules{Prefix: "ztm.dev"}, Importing: l.importing, Derive: l.derive, Log: slog.New(slog.DiscardHandler)}
		change(&config)
		l.kube = New(config)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { l.kube.Run(ctx) })
		test(t, l)
		cancel()
		done.Wait()
		wire.Stop()
	})
}

func (l *lab) service(namespace, name, annotations string) {
	l.PutJSON("/api/v1/namespaces/"+namespace+"/services/"+name,
		fmt.Sprintf(`{"metadata":{"annotations":{%s}},"spec":{"ports":[{"port":80,"protocol":"TCP"}]}}`, annotations))
}

// pass lets time pass.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func (l *lab) want(t *testing.T, after time.Duration, want ...string) {
	t.Helper()
	pass(after)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.set, want) {
		t.Errorf("exposed are %q, want %q", l.set, want)
	}
}

func (l *lab) events(reason string) (n int) {
	for _, e := range l.Below("/api/v1/events") {
		if e["reason"] == reason {
			n++
		}
	}
	return n
}

const exposed = `"ztm.dev/expose":"true"`

func TestWhatAServiceAsksForIsSoWithinASecond(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.want(t, time.Second)
		l.service("shop", "web", exposed)
		l.want(t, time.Second, "tcp/shop.web")
		l.service("shop", "db", exposed)
		l.want(t, time.Second, "tcp/shop.db", "tcp/shop.web")
		l.service("shop", "db", "")
		l.want(t, time.Second, "tcp/shop.web")
		l.Delete("/api/v1/namespaces/shop/services/web")
		l.want(t, time.Second)
		if err := l.kube.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnOutageChangesNothingAndARefusalWithdraws(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.service("shop", "web", exposed)
		l.want(t, time.Second, "tcp/shop.web")
		var code atomic.Int64
		code.Store(http.StatusServiceUnavailable)
		l.Fail(func(r *http.Request) *kubetest.Failure { return &kubetest.Failure{Code: int(code.Load())} })
		l.Break()
		l.want(t, time.Hour, "tcp/shop.web")
		code.Store(http.StatusForbidden)
		l.want(t, 3*time.Minute)
		if l.kube.Ready() == nil {
			t.Error("it is ready")
		}
		l.Fail(nil)
		l.want(t, 2*time.Minute, "tcp/shop.web")
		if err := l.kube.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAgentThatDoesNotAnswerIsToldAgain(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.answers(Refusals{}, errors.New("not joined yet"))
		l.service("shop", "web", exposed)
		l.want(t, 10*time.Second)
		if l.kube.Ready() == nil {
			t.Error("it is ready")
		}
		l.answers(Refusals{}, nil)
		l.want(t, 3*time.Second, "tcp/shop.web")
		l.mu.Lock()
		l.set, l.told = nil, 0 // the app starts anew
		l.mu.Unlock()
		l.want(t, time.Minute, "tcp/shop.web")
		if n := l.times(); n > 3 {
			t.Errorf("told %d times in a minute without a change", n)
		}
	})
}

func TestEachThingIsSaidOnce(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.answers(Refusals{Outbound: map[string]string{"tcp/shop.web": "it was set by hand"}}, nil)
		l.service("shop", "web", exposed)
		l.service("shop", "bad", `"ztm.dev/expose":"no name"`)
		pass(5 * time.Minute)
		if a, b := l.events(asked.Exposed), l.events(asked.ExposeRefused); a != 1 || b != 2 {
			t.Errorf("%d events of success, %d of refusals", a, b)
		}
		if n := len(slices.DeleteFunc(l.Requests(), func(r string) bool { return !strings.HasPrefix(r, "POST") })); n != 3 {
			t.Errorf("%d events were written", n)
		}
	})
}

// Whoever may change an annotation could make us write for ever.
func TestAnAnnotationThatFlipsCostsLittle(t *testing.T) {
	appstest.Long(t)
	inLab(t, nil, func(t *testing.T, l *lab) {
		for i := range 3000 {
			l.service("shop", "web", fmt.Sprintf(`"ztm.dev/expose":"x y %d"`, i))
			pass(10 * time.Millisecond)
		}
		if n := len(l.Requests()); n > 70 {
			t.Errorf("%d requests in half a minute", n)
		}
		if n := l.times(); n > 350 {
			t.Errorf("the agent was told %d times", n)
		}
	})
}

func TestNamedNamespacesAloneAreAskedFor(t *testing.T) {
	inLab(t, []string{"shop"}, func(t *testing.T, l *lab) {
		l.service("shop", "web", exposed)
		l.service("other", "web", exposed)
		l.want(t, time.Second, "tcp/shop.web")
		for _, r := range l.Requests() {
			if !strings.Contains(r, "/namespaces/shop/") {
				t.Errorf("asked: %s", r)
			}
		}
	})
}

func TestReadinessSaysWhy(t *testing.T) {
	h := Health{Ready: func() error { return errors.New("no hub") }}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 404} {
		w := httptest.NewRecorder()
		r, _ := http.NewRequest("GET", path, nil)
		h.ServeHTTP(w, r)
		if w.Code != want || path == "/readyz" && !strings.Contains(w.Body.String(), "no hub") {
			t.Errorf("%s: %d %q", path, w.Code, w.Body.String())
		}
	}
}

const importingService = `{"metadata":{"annotations":{"ztm.dev/import":%q}},"spec":{"clusterIP":"10.43.0.5","ports":[{"port":80,"protocol":"TCP"}]%s}}`

func (l *lab) importer(name, tunnel, selector string) {
	l.PutJSON("/api/v1/namespaces/shop/services/"+name, fmt.Sprintf(importingService, tunnel, selector))
}

// slicesOf returns the slices of a Service, "NAME ADDRESS:PORT".
func (l *lab) slicesOf(service string) (list []string) {
	for path, o := range l.Below("/apis/discovery.k8s.io/v1/endpointslices") {
		meta := o["metadata"].(kubetest.Object)
		if labels, _ := meta["labels"].(kubetest.Object); labels[cluster.LabelService] == service {
			endpoint := o["endpoints"].([]any)[0].(kubetest.Object)
			port := o["ports"].([]any)[0].(kubetest.Object)
			list = append(list, fmt.Sprintf("%s %v:%v", path[strings.LastIndex(path, "/")+1:], endpoint["addresses"].([]any)[0], port["port"]))
		}
	}
	slices.Sort(list)
	return list
}

func TestAServiceThatImportsLeadsToThisPod(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.importer("remote", "prod.web@far", "")
		pass(time.Second)
		got, inbound := l.slicesOf("remote"), l.listening()
		if len(inbound) != 1 || inbound[0].Name != "prod.web" || !slices.Equal(inbound[0].Exits, []string{"id-of-far"}) {
			t.Fatalf("%+v", inbound)
		}
		if want := "remote-ztm-own-uid--4 " + inbound[0].Listens[0]; len(got) != 1 || got[0] != want || !strings.HasPrefix(inbound[0].Listens[0], "10.42.0.7:2000") {
			t.Errorf("slices %q, want %q", got, want)
		}
		before := len(l.Requests())
		pass(3 * time.Minute)
		if n := len(l.Requests()) - before; n > 0 {
			t.Errorf("%d requests while nothing changes", n)
		}
		if l.events(asked.Imported) != 1 {
			t.Error("the Service has heard nothing")
		}

		l.importer("remote", "prod.web@far", `,"selector":{"app":"x"}`) // its own pods are behind it now
		pass(time.Second)
		if got, inbound := l.slicesOf("remote"), l.listening(); len(got) != 0 || len(inbound) != 1 {
			t.Errorf("slices %q, and it listens %d times: the slice goes first", got, len(inbound))
		}
		pass(12 * time.Second)
		if inbound := l.listening(); len(inbound) != 0 {
			t.Errorf("it still listens: %+v", inbound)
		}
	})
}

func TestASliceThatWasSpoiledIsMadeGood(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.importer("remote", "prod.web", "")
		pass(time.Minute)
		path := "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/remote-ztm-own-uid--4"
		l.Delete(path)
		pass(time.Second)
		if l.Get(path) == nil {
			t.Error("it was deleted and is not there again")
		}
	})
}

func TestNoSliceLeadsToAPortAtWhichNobodyListens(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.answers(Refusals{Inbound: map[string]string{"tcp/prod.web": "the port is taken"}}, nil)
		l.importer("remote", "prod.web", "")
		pass(time.Minute)
		if got := l.slicesOf("remote"); len(got) != 0 || l.events(asked.ImportRefused) != 1 {
			t.Errorf("slices %q, %d events", got, l.events(asked.ImportRefused))
		}
	})
}

// TestServiceExportsAreFollowedWhereTheyAre: a cluster without the multi-cluster API is as any other.
func TestServiceExportsAreFollowedWhereTheyAre(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.service("shop", "web", `"ztm.dev/expose":"true"`)
		l.service("shop", "api", "")
		l.want(t, time.Second, "tcp/shop.web")
		l.Fail(func(r *http.Request) *kubetest.Failure {
			if strings.HasSuffix(r.URL.Path, "/serviceexports") {
				return &kubetest.Failure{Code: http.StatusNotFound, Body: "404 page not found"}
			}
			return nil
		})
		l.Break()
		l.service("shop", "more", `"ztm.dev/expose":"true"`)
		l.want(t, time.Minute, "tcp/shop.more", "tcp/shop.web")
		l.Fail(func(r *http.Request) *kubetest.Failure {
			if strings.HasSuffix(r.URL.Path, "/serviceexports") {
				return &kubetest.Failure{Code: http.StatusForbidden}
			}
			return nil
		})
		l.service("shop", "other", `"ztm.dev/expose":"true"`)
		l.want(t, time.Minute, "tcp/shop.more", "tcp/shop.other", "tcp/shop.web")
		if err := l.kube.Ready(); err == nil || !strings.Contains(err.Error(), "ServiceExports") {
			t.Errorf("it does not say that the right is missing: %v", err)
		}
		l.Fail(nil)
		l.Delete("/api/v1/namespaces/shop/services/other")
		l.PutJSON("/apis/multicluster.x-k8s.io/v1alpha1/namespaces/shop/serviceexports/api", `{}`)
		l.want(t, 2*time.Minute, "tcp/shop.api", "tcp/shop.more", "tcp/shop.web")
	})
}

// Rights that are applied anew are missing for a moment.
func TestWhatAServiceExportExposesOutlivesAShortRefusal(t *testing.T) {
	for name, code := range map[string]int{"refused": http.StatusForbidden, "not found": http.StatusNotFound} {
		t.Run(name, func(t *testing.T) {
			inLab(t, nil, func(t *testing.T, l *lab) {
				l.service("shop", "web", `"ztm.dev/expose":"true"`)
				l.service("shop", "api", "")
				l.PutJSON("/apis/multicluster.x-k8s.io/v1alpha1/namespaces/shop/serviceexports/api", `{}`)
				l.want(t, 2*time.Minute, "tcp/shop.api", "tcp/shop.web")
				l.Fail(func(r *http.Request) *kubetest.Failure {
					if strings.HasSuffix(r.URL.Path, "/serviceexports") {
						return &kubetest.Failure{Code: code, Body: "no"}
					}
					return nil
				})
				l.Break()
				pass(20 * time.Second)
				l.service("shop", "more", `"ztm.dev/expose":"true"`)
				l.want(t, 10*time.Second, "tcp/shop.api", "tcp/shop.more", "tcp/shop.web")
				l.want(t, 3*time.Minute, "tcp/shop.more", "tcp/shop.web")
			})
		})
	}
}

func TestATunnelThatNobodyOffersRefusesItsClients(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.offers(true, nil)
		l.importer("remote", "prod.web", "")
		pass(10 * time.Second)
		l.offers(false, errors.New("no hub answers"))
		pass(time.Minute)
		if got := l.slicesOf("remote"); len(got) != 1 {
			t.Fatalf("judged while nobody can tell: %q", got)
		}
		l.offers(false, nil)
		pass(look)
		if got := l.slicesOf("remote"); len(got) != 1 {
			t.Errorf("judged at once: %q", got)
		}
		pass(unoffered + 2*look)
		if got := l.slicesOf("remote"); len(got) != 0 || l.events(asked.NoExit) != 1 {
			t.Errorf("%q, %d events", got, l.events(asked.NoExit))
		}
		if got := l.listening(); len(got) != 1 {
			t.Errorf("the listener has gone, too: %v", got)
		}
		l.offers(true, nil)
		pass(2 * look)
		if got := l.slicesOf("remote"); len(got) != 1 {
			t.Errorf("it is offered again: %q", got)
		}
	})
}

func TestAPodThatEndsTakesItsSlicesAlong(t *testing.T) {
	var l *lab
	inLab(t, nil, func(t *testing.T, in *lab) {
		l = in
		l.importer("remote", "prod.web", "")
		pass(time.Second)
	})
	if got := l.slicesOf("remote"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// left is a slice of another pod of the agent.
func (l *lab) left(name, uid string) {
	l.PutJSON("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/"+name, fmt.Sprintf(`{"metadata":{"labels":{"kubernetes.io/service-name":"remote",
		"endpointslice.kubernetes.io/managed-by":"ztm.dev"}},"addressType":"IPv4","endpoints":[{"addresses":["10.42.0.8"],"targetRef":{"kind":"Pod","uid":%q}}],"ports":[{"port":1}]}`, uid))
}

// replicas are the pods of the agent's Service, which publishes all as ready. One that is not ends in
// an exclamation mark.
func (l *lab) replicas(uids ...string) {
	endpoints := []string{}
	for _, u := range uids {
		uid, not := strings.CutSuffix(u, "!")
		endpoints = append(endpoints, fmt.Sprintf(`{"addresses":["10.42.0.9"],"conditions":{"ready":true,"serving":%v},"targetRef":{"kind":"Pod","namespace":"ztm","uid":%q}}`, !not, uid))
	}
	l.PutJSON("/apis/discovery.k8s.io/v1/namespaces/ztm/endpointslices/ztm-1", `{"metadata":{"labels":{"kubernetes.io/service-name":"ztm",
		"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"}},"endpoints":[`+strings.Join(endpoints, ",")+`]}`)
}

func TestWhatADeadPodLeftIsTakenAway(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.left("of-the-living", "other")
		l.left("of-the-dead", "gone")
		pass(time.Minute)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Errorf("judged without knowing who lives: %q", got)
		}
		l.replicas("other") // this pod is not among them: the list is not about us
		pass(time.Minute)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Errorf("judged by a list without this pod: %q", got)
		}
		l.replicas("other", "own-uid-0001")
		pass(5 * time.Second)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Errorf("judged at once: %q", got)
		}
		pass(12 * time.Second)
		if got := l.slicesOf("remote"); len(got) != 1 || !strings.HasPrefix(got[0], "of-the-living") {
			t.Errorf("%q", got)
		}
	})
}

func TestPortsAreARange(t *testing.T) {
	if a, b, err := Ports("20000-29999"); a != 20000 || b != 29999 || err != nil {
		t.Errorf("%d %d %v", a, b, err)
	}
	for _, s := range []string{"", "1", "5-4", "0-1", "1-65536", "a-b", "-"} {
		if _, _, err := Ports(s); err == nil {
			t.Errorf("%q is a range", s)
		}
	}
}
