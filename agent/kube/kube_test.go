package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/kube/cluster"
	"ztm/agent/kube/expose"
	"ztm/agent/kube/kubetest"
)

// lab is an API server, and a controller that watches it.
type lab struct {
	*kubetest.Server
	kube *Controller

	mu      sync.Mutex
	set     []string // keys of what the agent was told last
	told    int      // how often
	refused map[string]string
	err     error
}

func (l *lab) derive(_ context.Context, set []expose.Outbound) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	l.told++
	l.set = []string{}
	for _, o := range set {
		l.set = append(l.set, o.Key())
	}
	return l.refused, nil
}

// inLab runs a test in a bubble of its own.
func inLab(t *testing.T, namespaces []string, test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{Server: &kubetest.Server{}}
		wire := kubetest.Start(l)
		client, err := cluster.New(cluster.Config{Server: "http://cluster", Dial: wire.Dial, Token: func() (string, error) { return "secret", nil }})
		if err != nil {
			t.Fatal(err)
		}
		l.kube = New(Config{Client: client, Namespaces: namespaces, Rules: expose.Rules{Prefix: "ztm.dev"}, Derive: l.derive, Log: slog.New(slog.DiscardHandler)})
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
		l.err = errors.New("not joined yet")
		l.service("shop", "web", exposed)
		l.want(t, 10*time.Second)
		if l.kube.Ready() == nil {
			t.Error("it is ready")
		}
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		l.want(t, 3*time.Second, "tcp/shop.web")
		l.mu.Lock()
		l.set, l.told = nil, 0 // the app starts anew
		l.mu.Unlock()
		l.want(t, time.Minute, "tcp/shop.web")
		if l.told > 3 {
			t.Errorf("told %d times in a minute without a change", l.told)
		}
	})
}

func TestEachThingIsSaidOnce(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		l.refused = map[string]string{"tcp/shop.web": "it was set by hand"}
		l.service("shop", "web", exposed)
		l.service("shop", "bad", `"ztm.dev/expose":"no name"`)
		pass(5 * time.Minute)
		if a, b := l.events(expose.Exposed), l.events(expose.Refused); a != 1 || b != 2 {
			t.Errorf("%d events of success, %d of refusals", a, b)
		}
		if n := len(slices.DeleteFunc(l.Requests(), func(r string) bool { return !strings.HasPrefix(r, "POST") })); n != 3 {
			t.Errorf("%d events were written", n)
		}
	})
}

// Whoever may change an annotation could make us write for ever.
func TestAnAnnotationThatFlipsCostsLittle(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		for i := range 3000 {
			l.service("shop", "web", fmt.Sprintf(`"ztm.dev/expose":"x y %d"`, i))
			pass(10 * time.Millisecond)
		}
		if n := len(l.Requests()); n > 70 {
			t.Errorf("%d requests in half a minute", n)
		}
		if l.told > 350 {
			t.Errorf("the agent was told %d times", l.told)
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
