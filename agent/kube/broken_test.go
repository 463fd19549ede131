package kube

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/agent/kube/kubetest"
)

// TestANamespaceThatIsMadeAgainBeginsWithNothing: neither its label nor its Services come back.
func TestANamespaceThatIsMadeAgainBeginsWithNothing(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		const space = "/api/v1/namespaces/shop"
		l.PutJSON(space, `{"metadata":{"labels":{"ztm.dev/expose":"all"}}}`)
		l.service("shop", "web", "")
		l.want(t, time.Second, "tcp/shop.web")
		l.Delete(space + "/services/web")
		l.Delete(space)
		l.want(t, time.Second)
		l.PutJSON(space, `{}`)
		l.service("shop", "web", "")
		l.want(t, time.Second)
		l.PutJSON(space, `{"metadata":{"labels":{"ztm.dev/expose":"all"}}}`)
		l.want(t, time.Second, "tcp/shop.web")
	})
}

// refuses makes the server refuse some requests for lack of a right.
func (l *lab) refuses(what func(r *http.Request) bool) {
	l.Fail(func(r *http.Request) *kubetest.Failure {
		if what(r) {
			return &kubetest.Failure{Code: http.StatusForbidden}
		}
		return nil
	})
}

// TestEachRightThatIsMissingIsSaidAndTheRestGoesOn takes the rights of the account one by one.
func TestEachRightThatIsMissingIsSaidAndTheRestGoesOn(t *testing.T) {
	to := func(method, part string) func(r *http.Request) bool {
		return func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, part) }
	}
	for name, tt := range map[string]struct {
		refused func(r *http.Request) bool
		says    string // on readiness; "": what is missing makes nothing less reachable
	}{
		"namespaces":      {func(r *http.Request) bool { return r.URL.Path == "/api/v1/namespaces" }, "Namespaces"},
		"serviceexports":  {to(http.MethodGet, "/serviceexports"), "ServiceExports"},
		"write slices":    {to(http.MethodPatch, "/endpointslices/"), "EndpointSlice shop/remote"},
		"events":          {to(http.MethodPost, "/events"), ""},
		"services/status": {to(http.MethodPatch, "/status"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			inLabWith(t, func(c *Config) { c.Conditions = true }, func(t *testing.T, l *lab) {
				l.service("shop", "web", exposed)
				l.want(t, time.Second, "tcp/shop.web")
				l.refuses(tt.refused)
				l.Break()
				l.importer("remote", "prod.web", "")
				l.service("shop", "more", exposed)
				l.want(t, 2*time.Minute, "tcp/shop.more", "tcp/shop.web")
				if err := l.kube.Ready(); (err != nil) != (tt.says != "") || err != nil && (!strings.Contains(err.Error(), tt.says) || !cluster.Denied(err)) {
					t.Errorf("ready: %v", err)
				}
				if name != "write slices" && len(l.slicesOf("remote")) != 1 {
					t.Error("nothing is imported")
				}
				l.Fail(nil)
				pass(2 * time.Minute)
				if err := l.kube.Ready(); err != nil {
					t.Errorf("the right is back: %v", err)
				}
			})
		})
	}
}

// TestWithoutAListNothingIsExposed: who may not see what exposing needs is told what is missing.
func TestWithoutAListNothingIsExposed(t *testing.T) {
	for part, says := range map[string]string{"/services": "Services", "/endpointslices": "EndpointSlices", "/namespaces": "Namespaces"} {
		t.Run(says, func(t *testing.T) {
			inLab(t, nil, func(t *testing.T, l *lab) {
				l.refuses(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, part) })
				l.service("shop", "web", exposed)
				l.want(t, time.Minute)
				if err := l.kube.Ready(); err == nil || !strings.Contains(err.Error(), says+" were not listed yet") || !cluster.Denied(err) {
					t.Errorf("ready: %v", err)
				}
				l.Fail(nil)
				l.want(t, 2*time.Minute, "tcp/shop.web")
			})
		})
	}
}

// TestAnAccountThatIsDeletedExposesNothing: its token is good for nobody.
func TestAnAccountThatIsDeletedExposesNothing(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.service("shop", "web", exposed)
		l.want(t, time.Second, "tcp/shop.web")
		l.Fail(func(*http.Request) *kubetest.Failure { return &kubetest.Failure{Code: http.StatusUnauthorized} })
		l.Break()
		l.want(t, 3*time.Minute)
		if err := l.kube.Ready(); err == nil || !strings.Contains(err.Error(), "refused this account") {
			t.Errorf("ready: %v", err)
		}
	})
}

const slicesOfShop = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/"

// TestASliceOfAnotherManagerIsLeftAlone: neither one behind a Service that wants to import, nor one that
// has the name which ours would have.
func TestASliceOfAnotherManagerIsLeftAlone(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		const foreign = `{"metadata":{"labels":{"kubernetes.io/service-name":%SERVICE%,"endpointslice.kubernetes.io/managed-by":"somebody"}},
			"addressType":"IPv4","endpoints":[{"addresses":["10.42.0.8"],"targetRef":{"kind":"Pod","uid":"gone"}}],"ports":[{"port":1}]}`
		paths := []string{slicesOfShop + "behind", slicesOfShop + "named-ztm-own-uid--4"}
		l.PutJSON(paths[0], strings.Replace(foreign, "%SERVICE%", `"remote"`, 1))
		l.PutJSON(paths[1], strings.Replace(foreign, "%SERVICE%", `"other"`, 1))
		before := []kubetest.Object{l.Get(paths[0]), l.Get(paths[1])}
		l.replicas("own-uid-0001")
		l.importer("remote", "prod.web", "")
		l.importer("named", "prod.web", "")
		l.importer("good", "prod.web", "")
		pass(time.Minute)
		for i, path := range paths {
			if o := l.Get(path); o == nil || version(o) != version(before[i]) {
				t.Errorf("%s has become %v", path, o)
			}
		}
		if n := l.events(asked.ImportRefused); n != 2 {
			t.Errorf("%d refusals are told", n)
		}
		if got := l.slicesOf("good"); len(got) != 1 {
			t.Errorf("the third Service has %q", got)
		}
		if err := l.kube.Ready(); err != nil {
			t.Errorf("what others write makes this agent not ready: %v", err)
		}
	})
}

func version(o kubetest.Object) any { return o["metadata"].(kubetest.Object)["resourceVersion"] }

// TestWhatWasLeftBehindAServiceGoesThoughItImportsNothing: all agents were away, and meanwhile somebody
// else has made the Service again.
func TestWhatWasLeftBehindAServiceGoesThoughItImportsNothing(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.left("remote-ztm-gone-4", "gone")
		l.left("remote-ztm-own-uid--4", "own-uid-0001") // of this pod, before its program started again
		l.service("shop", "remote", "")
		l.replicas("own-uid-0001")
		pass(absent + 2*look)
		if got := l.slicesOf("remote"); len(got) != 0 {
			t.Errorf("%q", got)
		}
		l.want(t, 0)
	})
}

// TestAReplicaWhoseNodeIsCutOffIsLeftOut: its pod is there until the cluster gives it up, which takes
// minutes; that it is not ready is known sooner.
func TestAReplicaWhoseNodeIsCutOffIsLeftOut(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.left("of-the-living", "other")
		l.left("of-the-cut-off", "cut-off")
		l.replicas("other", "cut-off!", "own-uid-0001")
		pass(absent - look)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Errorf("judged at once: %q", got)
		}
		pass(3 * look)
		if got := l.slicesOf("remote"); len(got) != 1 || !strings.HasPrefix(got[0], "of-the-living") {
			t.Errorf("%q", got)
		}
	})
}

// TestAReplicaThatIsNotReadyLeavesToTheOthers: the hub is away for it, or for all of them.
func TestAReplicaThatIsNotReadyLeavesToTheOthers(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.importer("remote", "prod.web", "")
		l.left("of-another", "other")
		l.replicas("other", "own-uid-0001")
		pass(time.Minute)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Fatalf("%q", got)
		}
		l.offers(false, errors.New("no hub answers"))
		l.replicas("other!", "own-uid-0001!")
		pass(time.Minute)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Errorf("nobody is ready, and somebody was judged: %q", got)
		}
		l.replicas("other", "own-uid-0001!")
		pass(absent + 2*look)
		if got := l.slicesOf("remote"); len(got) != 1 || !strings.HasPrefix(got[0], "of-another") {
			t.Errorf("it stays beside one that is ready: %q", got)
		}
		if got := l.listening(); len(got) != 1 {
			t.Errorf("it does not listen any longer: %v", got)
		}
		l.replicas("other", "own-uid-0001")
		pass(2 * look)
		if got := l.slicesOf("remote"); len(got) != 2 {
			t.Errorf("it is ready again: %q", got)
		}
	})
}
