package news

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestTheHubIsOfferedANumberOnceInAWhile(t *testing.T) {
	var mesh appstest.Net
	h := mesh.Join("a", "alice")
	var host apps.Host
	h.New("cloud", func(h apps.Host) apps.App { host = h; return nil })
	x, err := index.Load(host.State, host.Notary)
	if err != nil {
		t.Fatal(err)
	}
	var offers []string
	host.Offer = func(names []string) { offers = append(offers, names...) }
	n := New(Config{Index: x, Host: host})
	var last offering
	for i := range 5 {
		e := entry.Entry{Path: "x", Deleted: true, Time: unixtime.MillisOf(time.Unix(int64(i), 0))}
		if err := x.Publish(entry.Author{ID: h.Self().ID, User: "alice"}, []index.Published{{Entry: e}}); err != nil {
			t.Fatal(err)
		}
		n.offer(&last)
	}
	if len(offers) != 1 {
		t.Fatalf("%d numbers were offered at once", len(offers))
	}
	last.when = time.Now().Add(-offerPause)
	if n.offer(&last); len(offers) != 2 || offers[1] == offers[0] || n.offer(&last) != nil {
		t.Errorf("after a while: %q", offers)
	}
}

func TestWhatWasToldToAnEndpointIsForgottenWhenItHasGone(t *testing.T) {
	n, online := newNews(t)
	for _, id := range []identity.ID{"pod-1", "pod-2", "pod-3"} {
		*online = []apps.Endpoint{{ID: "laptop", User: "alice"}, {ID: id, User: "alice"}}
		n.tell(t.Context())
	}
	if _, known := n.told["laptop"]; !known || len(n.told) != 2 {
		t.Errorf("it is known what was told to %v", slices.Sorted(maps.Keys(n.told)))
	}
}

// newNews returns a News of a user without files, and a list of those that are online.
func newNews(t *testing.T) (*News, *[]apps.Endpoint) {
	t.Helper()
	var mesh appstest.Net
	var host apps.Host
	mesh.Join("a", "alice").New("cloud", func(h apps.Host) apps.App { host = h; return nil })
	x, err := index.Load(host.State, host.Notary)
	if err != nil {
		t.Fatal(err)
	}
	var online []apps.Endpoint
	return New(Config{Index: x, Host: host,
		Others: func(context.Context) ([]apps.Endpoint, error) { return online, nil },
		Reader: func(p apps.Peer) entry.Reader { return entry.Reader{User: p.User} },
	}), &online
}

// deaf is a mesh in which nobody can be reached at first.
type deaf struct {
	apps.Mesh
	opened, fails int
}

func (d *deaf) Open(context.Context, identity.ID, string, url.Values) (net.Conn, error) {
	if d.opened++; d.opened <= d.fails {
		return nil, errors.New("it does not answer")
	}
	near, far := net.Pipe()
	return near, far.Close()
}

func TestWhoWasNotReachedIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, online := newNews(t)
		*online = []apps.Endpoint{{ID: "laptop", User: "alice"}}
		d := &deaf{Mesh: n.Host.Mesh, fails: 3}
		n.Host.Mesh, n.Host.Offer = d, func([]string) {}
		if err := n.Index.Publish(entry.Author{ID: d.Self().ID, User: "alice"}, []index.Published{{Entry: entry.Entry{Path: "x", Deleted: true}}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { n.Run(ctx) })
		n.Again()
		<-time.After(time.Hour) // of the test's own clock
		cancel()
		run.Wait()
		if d.opened != 4 {
			t.Errorf("it was told %d times, want 3 in vain and one that came", d.opened)
		}
	})
}
