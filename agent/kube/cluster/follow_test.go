package cluster

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/kube/kubetest"
)

// lab is an API server, and a cache that follows its Services.
type lab struct {
	*kubetest.Server
	client *Client
	cache  *Cache[Service]
	token  atomic.Pointer[string]
}

const services = "/api/v1/services"

// inLab runs a test in a bubble of its own.
func inLab(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{Server: &kubetest.Server{}}
		l.token.Store(new("first"))
		wire := kubetest.Start(l)
		client, err := New(Config{Server: "http://cluster", Dial: wire.Dial, Token: func() (string, error) { return *l.token.Load(), nil }})
		if err != nil {
			t.Fatal(err)
		}
		l.client, l.cache = client, NewCache[Service](func() {})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		l.put("a", 80)
		done.Go(func() { Follow(ctx, client, services, l.cache) })
		synctest.Wait()
		test(t, l)
		cancel()
		done.Wait()
		client.Close()
		wire.Stop()
	})
}

func (l *lab) put(name string, port int) {
	l.PutJSON("/api/v1/namespaces/shop/services/"+name, fmt.Sprintf(`{"spec":{"ports":[{"port":%d}]}}`, port))
}

// want fails the test unless the cache has these Services, "NAME:PORT", after some time.
func (l *lab) want(t *testing.T, within time.Duration, want ...string) {
	t.Helper()
	timer := time.NewTimer(within)
	<-timer.C
	synctest.Wait()
	items, _ := l.cache.Items()
	got := []string{}
	for _, s := range items {
		got = append(got, fmt.Sprint(s.Name, ":", s.Spec.Ports[0].Port))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the cache has %q, want %q", got, want)
	}
}

// count returns how many requests began with a text.
func (l *lab) count(prefix string) (n int) {
	for _, r := range l.Requests() {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (l *lab) lists() int { return l.count("GET " + services + "?limit") }

func TestChangesArriveThroughOneWatch(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.put("b", 81)
		l.put("a", 82)
		l.want(t, 0, "a:82", "b:81")
		l.Delete("/api/v1/namespaces/shop/services/a")
		l.want(t, 0, "b:81")
		if n := len(l.Requests()); n != 2 {
			t.Errorf("%d requests: %q", n, l.Requests())
		}
	})
}

func TestAListOfManyPagesIsOneState(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		for i := range 1200 {
			l.put(fmt.Sprint("s", i), 80)
		}
		l.Compact()
		l.Break()
		synctest.Wait()
		timer := time.NewTimer(time.Second)
		<-timer.C
		synctest.Wait()
		if items, _ := l.cache.Items(); len(items) != 1201 {
			t.Errorf("%d Services", len(items))
		}
	})
}

func TestALostWatchGoesOnWhereItWas(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.put("b", 81)
		synctest.Wait()
		l.Break()
		l.put("c", 82)
		l.want(t, time.Second, "a:80", "b:81", "c:82")
		if l.lists() != 1 {
			t.Errorf("listed %d times", l.lists())
		}
	})
}

func TestADeletionThatNoWatchSawIsFoundByTheList(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.put("b", 81)
		synctest.Wait()
		l.Fail(func(*http.Request) *kubetest.Failure { return &kubetest.Failure{Code: 503} })
		l.Break()
		synctest.Wait()
		l.Delete("/api/v1/namespaces/shop/services/a")
		l.Compact()
		l.want(t, 5*time.Minute, "a:80", "b:81")
		l.Fail(nil)
		l.want(t, 2*maxBackoff+time.Second, "b:81")
	})
}

func TestFailuresEndInTheRightCache(t *testing.T) {
	retry := http.Header{"Retry-After": {"7"}}
	for name, f := range map[string]kubetest.Failure{
		"500": {Code: 500}, "429": {Code: 429, Header: retry}, "504": {Code: 504}, "410": {Code: 410},
		"plain text": {Code: 404, Body: "404 page not found\n"}, "no JSON": {Code: 200, Body: "<html>"},
		"half a line":            {Code: 200, Body: `{"type":"ADDED","object":{"metadata":{"name":"x"`},
		"ERROR 500 in the watch": {Code: 200, Body: `{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd"}}`},
		"ERROR 410 in the watch": {Code: 200, Body: `{"type":"ERROR","object":{"kind":"Status","code":410,"message":"Expired"}}`},
		"a line of 3 MiB":        {Code: 200, Body: `{"type":"ADDED","object":{"metadata":{"name":"` + strings.Repeat("x", 3<<20) + `"}}}`},
		"no object":              {Code: 200, Body: `{"type":"ADDED","object":7}`},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				failing := f
				l.Fail(func(r *http.Request) *kubetest.Failure { return &failing })
				l.Break()
				l.put("b", 81)
				l.want(t, 40*time.Second, "a:80")
				before := len(l.Requests())
				if _, err := l.cache.Health(); err == nil {
					t.Error("nothing is said of the failure")
				}
				if before > 20 {
					t.Errorf("%d requests in 40 s", before)
				}
				l.Fail(nil)
				l.want(t, 2*maxBackoff+time.Second, "a:80", "b:81")
			})
		})
	}
}

func TestAWatchThatStaysSilentEndsInAList(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		hang := func(r *http.Request) *kubetest.Failure {
			if r.URL.Query().Has("watch") {
				return &kubetest.Failure{Code: 200, Body: " ", Hang: true}
			}
			return nil
		}
		l.Fail(hang)
		l.Break()
		l.put("b", 81)
		l.want(t, time.Minute, "a:80")
		l.want(t, silence+time.Minute, "a:80", "b:81")
	})
}

func TestABookmarkAloneMovesTheVersion(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.PutJSON("/api/v1/namespaces/shop/pods/p", `{}`) // another kind moves the version too
		timer := time.NewTimer(61 * time.Second)
		<-timer.C
		l.Break()
		l.want(t, time.Second, "a:80")
		last := l.Requests()[len(l.Requests())-1]
		if first := l.Requests()[1]; !strings.Contains(last, "resourceVersion=102") || strings.Contains(first, "resourceVersion=102") {
			t.Errorf("watched with %s, then with %s", first, last)
		}
	})
}

func TestARefusedAccountIsNoticedAndANewTokenIsRead(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.Fail(func(r *http.Request) *kubetest.Failure {
			if r.Header.Get("Authorization") != "Bearer second" {
				return &kubetest.Failure{Code: 401}
			}
			return nil
		})
		l.Break()
		l.want(t, time.Minute, "a:80")
		if denied, _ := l.cache.Health(); denied.IsZero() || time.Since(denied) < 50*time.Second {
			t.Errorf("denied since %v", denied)
		}
		l.token.Store(new("second"))
		l.put("b", 81)
		l.want(t, 2*maxBackoff+time.Second, "a:80", "b:81")
		if denied, err := l.cache.Health(); err != nil || !denied.IsZero() {
			t.Errorf("%v, denied since %v", err, denied)
		}
	})
}

// An open watch is not looked at again by the server: its rights may be gone.
func TestNoWatchLivesLongerThanFiveMinutes(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.want(t, 301*time.Second, "a:80")
		if n := l.count("GET " + services + "?allowWatchBookmarks"); n < 2 {
			t.Errorf("%d watches in five minutes", n)
		}
		if l.lists() != 1 {
			t.Errorf("listed %d times", l.lists())
		}
	})
}
