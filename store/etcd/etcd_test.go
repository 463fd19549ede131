package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/store/etcd"
	"ztm/store/etcd/etcdtest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// TestTheClient runs against the etcd of the tests, and against a real one where there is one: what
// the former says must be what the latter does.
func TestTheClient(t *testing.T) {
	appstest.Long(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *etcd.Client, string)
	}{
		{"one of many creates a key", oneCreates},
		{"a condition is about the last change", conditions},
		{"a list is of one revision, whatever its pages", pages},
		{"changes are counted", changed},
		{"a watch says what has changed since a revision", watched},
		{"a watch ends where etcd has forgotten", compacted},
		{"a watch from the future ends", future},
		{"a lease that is gone is said to be", leases},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Run("of the tests", func(t *testing.T) {
				m := member(t, etcdtest.New())
				tt.test(t, client(t, etcd.Config{Endpoints: []string{m.URL}}), m.URL)
			})
			t.Run("real", func(t *testing.T) {
				url := etcdtest.Real(t, 1)[0]
				tt.test(t, client(t, etcd.Config{Endpoints: []string{url}}), url)
			})
		})
	}
}

func member(t *testing.T, c *etcdtest.Cluster) *etcdtest.Member {
	m := c.Start()
	t.Cleanup(m.Close)
	return m
}

func client(t *testing.T, c etcd.Config) *etcd.Client {
	t.Helper()
	made, err := etcd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	return made
}

// create puts a key that must not be there yet.
func create(t *testing.T, c *etcd.Client, key, value string) etcd.Result {
	t.Helper()
	r, err := c.Txn(t.Context(), etcd.Txn{If: []etcd.Condition{{Key: key}}, Then: []etcd.Op{etcd.Put(key, []byte(value), 0)}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func oneCreates(t *testing.T, c *etcd.Client, _ string) {
	var wg sync.WaitGroup
	var done atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			mine := fmt.Sprint(i)
			r, err := c.Txn(t.Context(), etcd.Txn{If: []etcd.Condition{{Key: "k"}}, Then: []etcd.Op{etcd.Put("k", []byte(mine), 0)}})
			switch {
			case err != nil:
				t.Error(err)
			case r.Done:
				done.Add(1)
			case string(r.Found["k"].Value) == "" || string(r.Found["k"].Value) == mine && !r.Again:
				t.Errorf("%+v", r)
			}
		})
	}
	if wg.Wait(); done.Load() != 1 {
		t.Errorf("%d have created it", done.Load())
	}
}

func conditions(t *testing.T, c *etcd.Client, _ string) {
	first := create(t, c, "a", "1")
	change := etcd.Txn{If: []etcd.Condition{{Key: "a", Revision: first.Revision}, {Key: "b"}}, Then: []etcd.Op{etcd.Delete("a"), etcd.Put("b", []byte("2"), 0)}}
	if r, err := c.Txn(t.Context(), change); err != nil || !r.Done || r.Revision <= first.Revision {
		t.Fatalf("%+v, %v", r, err)
	}
	r, err := c.Txn(t.Context(), change)
	if err != nil || r.Done || r.Found["a"].Revision != 0 || string(r.Found["b"].Value) != "2" {
		t.Errorf("%+v, %v", r, err)
	}
	if kv, err := c.Get(t.Context(), "a"); err != nil || kv.Revision != 0 {
		t.Errorf("%+v, %v", kv, err)
	}
	if got, err := c.Read(t.Context(), "a", "b"); err != nil || got["a"].Revision != 0 || string(got["b"].Value) != "2" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Txn(t.Context(), etcd.Txn{Then: []etcd.Op{etcd.Delete("a")}}); err == nil {
		t.Error("a transaction without conditions was sent: nobody could say what a second one does")
	}
	if _, err := c.Txn(t.Context(), etcd.Txn{If: make([]etcd.Condition, etcd.MaxOps+1)}); err == nil {
		t.Error("a transaction over the limit was sent")
	}
	if _, err := c.Txn(t.Context(), etcd.Txn{If: []etcd.Condition{{Key: "x"}}, Then: []etcd.Op{etcd.Put("x", make([]byte, etcd.MaxRequest), 0)}}); err == nil {
		t.Error("a request over the limit was sent")
	}
}

func fill(t *testing.T, c *etcd.Client, n int) {
	t.Helper()
	for from := 0; from < n; from += 100 {
		var txn etcd.Txn
		for i := from; i < min(from+100, n); i++ {
			key := fmt.Sprintf("p/%05d", i)
			txn.If = append(txn.If, etcd.Condition{Key: key})
			txn.Then = append(txn.Then, etcd.Put(key, []byte("v"), 0))
		}
		if r, err := c.Txn(t.Context(), txn); err != nil || !r.Done {
			t.Fatal(r, err)
		}
	}
}

func pages(t *testing.T, c *etcd.Client, _ string) {
	fill(t, c, 1201)
	create(t, c, "q", "not asked for")
	var keys []string
	at, err := c.List(t.Context(), "p/", 0, func(kv etcd.KV) {
		if len(keys) == 0 {
			create(t, c, "p/99999", "later")
		}
		keys = append(keys, kv.Key)
	})
	if err != nil || len(keys) != 1201 || !slices.IsSorted(keys) || len(slices.Compact(keys)) != 1201 || slices.Contains(keys, "p/99999") {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if n, changed, err := c.Changed(t.Context(), "p/", at); n != 1202 || !changed || err != nil {
		t.Errorf("since then: %d keys, %v, %v", n, changed, err)
	}
}

func changed(t *testing.T, c *etcd.Client, _ string) {
	create(t, c, "p/1", "1")
	at := create(t, c, "p/2", "2").Revision
	if n, changed, err := c.Changed(t.Context(), "p/", at); n != 2 || changed || err != nil {
		t.Errorf("%d keys, %v, %v", n, changed, err)
	}
	create(t, c, "q", "elsewhere")
	at = create(t, c, "p/3", "3").Revision
	if n, changed, err := c.Changed(t.Context(), "p/", at-1); n != 3 || !changed || err != nil {
		t.Errorf("%d keys, %v, %v", n, changed, err)
	}
}

// follow watches until the test ends. Events are written as "key=value@revision", or "key-@revision".
func follow(t *testing.T, c *etcd.Client, after int64) (said func() string, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var all []string
	ended = make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ended <- c.Watch(ctx, "p/", after, func(events []etcd.Event, until int64) {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				if e.Deleted {
					all = append(all, e.Key+"-")
				} else {
					all = append(all, e.Key+"="+string(e.Value))
				}
			}
			if last := events[len(events)-1].Revision; until != last {
				t.Errorf("seen until %d, the last is %d", until, last)
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(all, " ")
	}, ended
}

func watched(t *testing.T, c *etcd.Client, _ string) {
	at := create(t, c, "p/1", "1").Revision
	create(t, c, "p/2", "2")
	said, _ := follow(t, c, at)
	r := create(t, c, "p/3", "3")
	create(t, c, "q", "elsewhere")
	if r, err := c.Txn(t.Context(), etcd.Txn{If: []etcd.Condition{{Key: "p/3", Revision: r.Revision}}, Then: []etcd.Op{etcd.Delete("p/3")}}); err != nil || !r.Done {
		t.Fatal(r, err)
	}
	appstest.Eventually(t, "all changes are told", func() bool { return said() == "p/2=2 p/3=3 p/3-" })
}

// want waits for the end of a watch.
func want(t *testing.T, ended chan error, why error) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, why) {
			t.Errorf("it has ended with %v, want %v", err, why)
		}
	case <-time.After(90 * time.Second):
		t.Fatalf("it goes on; want %v", why)
	}
}

func compacted(t *testing.T, c *etcd.Client, url string) {
	create(t, c, "p/1", "1")
	at := create(t, c, "p/2", "2").Revision
	resp, err := http.Post(url+"/v3/kv/compaction", "application/json", bytes.NewBufferString(fmt.Sprintf(`{"revision":"%d"}`, at)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, ended := follow(t, c, at-2)
	want(t, ended, etcd.ErrCompacted)
}

func future(t *testing.T, c *etcd.Client, _ string) {
	_, ended := follow(t, c, create(t, c, "p/1", "1").Revision+100)
	want(t, ended, etcd.ErrRestored)
}

func leases(t *testing.T, c *etcd.Client, _ string) {
	id, err := c.Grant(t.Context(), 10*time.Second)
	if err != nil || id == 0 {
		t.Fatal(id, err)
	}
	if r, err := c.Txn(t.Context(), etcd.Txn{If: []etcd.Condition{{Key: "p/live"}}, Then: []etcd.Op{etcd.Put("p/live", []byte("1"), id)}}); err != nil || !r.Done {
		t.Fatal(r, err)
	}
	if alive, err := c.KeepAlive(t.Context(), id); err != nil || !alive {
		t.Error(alive, err)
	}
	if err := c.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if kv, err := c.Get(t.Context(), "p/live"); err != nil || kv.Revision != 0 {
		t.Errorf("%+v, %v", kv, err)
	}
	if alive, err := c.KeepAlive(t.Context(), id); err != nil || alive {
		t.Error(alive, err)
	}
}
