package hub

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/shared"
	"ztm/store/etcd/etcdtest"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
	"ztm/tunnel/unixtime"
)

// withStore starts hubs of a mesh that share an etcd of the tests, and have no links.
func withStore(t *testing.T, n int, options ...func(*Config)) (*etcdtest.Member, []*testHub) {
	t.Helper()
	cert, key, err := etcdtest.Certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m, err := etcdtest.New().StartTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	store := func(c *Config) {
		for _, o := range options {
			o(c)
		}
		c.Store, c.Metrics = shared.Store{Endpoints: []string{m.URL}, CA: cert, Cert: cert, Key: key}, "127.0.0.1:0"
	}
	hubs := []*testHub{start(t, store)}
	for len(hubs) < n {
		hubs = append(hubs, start(t, store, founded(t, hubs[0].ca)))
	}
	for _, h := range hubs {
		eventually(t, "the hub follows the store", func() bool { return h.metric("ztm_hub_store_relists_total") > 0 })
	}
	return m, hubs
}

// out reports whether a hub does not let a device in.
func out(t *testing.T, d *device) bool {
	s, err := d.dial()
	if err != nil {
		return true
	}
	defer s.Close()
	return s.Call(t.Context(), "GET", tunnel.PathEndpoints, nil, nil, nil) != nil
}

func TestHubsWithAStoreGiveANameOnce(t *testing.T) {
	_, hubs := withStore(t, 2)
	bob, alice := hubs[0].device("bob"), hubs[1].device("alice")
	bob.online("web")
	wantRefusal(t, alice.put(alice.session(), alice.record("web")), 409, "bob")
	alice.online("box")
	for _, h := range hubs {
		looker := h.device("looker").session()
		eventually(t, "all are listed", func() bool { return strings.Join(names(t, looker), " ") == "box web" })
	}
}

func TestAnEvictionReachesHubsByTheStore(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // it waits, most of the time
	m, hubs := withStore(t, 2)
	root, bob := hubs[0].device("root").online("admin"), hubs[1].device("bob")
	o := bob.online("web")
	hubs[0].evict(root, "bob")
	select {
	case <-o.ended:
	case <-time.After(timeout):
		t.Error("the session of an evicted user goes on")
	}
	eventually(t, "the user is out", func() bool { return out(t, bob) })

	m.Set(etcdtest.Alone)
	eventually(t, "the hubs notice", func() bool { return hubs[0].metric("ztm_hub_store_up") == 0 })
	eve, elsewhere := hubs[0].device("eve"), hubs[1].device("eve")
	hubs[0].evict(root, "eve") // is in force, and answered, all the same
	if !out(t, eve) {
		t.Error("an eviction waits for the store")
	}
	m.Set(etcdtest.Well)
	eventually(t, "the other hub hears of it", func() bool { return out(t, elsewhere) })
}

func TestAStoreThatDoesNotAnswerStopsNothing(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // it waits, most of the time
	m, hubs := withStore(t, 1)
	bob := hubs[0].device("bob")
	bob.online("web")
	m.Set(etcdtest.Alone)
	eventually(t, "the hub notices", func() bool { return hubs[0].metric("ztm_hub_store_up") == 0 })
	bob.online("web")
	carol := hubs[0].device("carol")
	wantRefusal(t, carol.put(carol.session(), carol.record("new")), 503, "store")
}

func TestAStoreIsCheckedBeforeAnythingBegins(t *testing.T) {
	at := []string{"https://127.0.0.1:2379"}
	for want, s := range map[string]shared.Store{
		"https://":     {Endpoints: []string{"http://127.0.0.1:2379"}, CA: "ca", Cert: "cert", Key: "key"},
		"nowhere":      {Endpoints: at, CA: "nowhere", Cert: "cert", Key: "key"},
		"--store-ca":   {Endpoints: at},
		"--store-cert": {Endpoints: at, CA: "nowhere"},
	} {
		if _, err := New(Config{Data: t.TempDir(), Store: s}); err == nil || !contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}

func TestAHubWithAStoreRedeemsATokenOnceWhateverItsDatabaseSays(t *testing.T) {
	t.Parallel() // it waits, most of the time
	m, hubs := withStore(t, 1, keepCA)
	h := hubs[0]
	token := h.token("bob", h.started.ID)
	if err := h.unjoined("bob").join("box", token); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, h.unjoined("bob").join("web", token), 403, "used")
	m.Set(etcdtest.Alone)
	late, next := h.unjoined("bob"), h.token("bob", h.started.ID)
	wantRefusal(t, late.join("web", next), 503, "store")
	m.Set(etcdtest.Well)
	eventually(t, "the same device gets in when the store is back", func() bool { return late.join("web", next) == nil })
	wantRefusal(t, h.unjoined("bob").join("www", next), 403, "used")
}

// joinSoon joins once the store answers: on a machine that is busy it may be late. Each attempt counts
// for what the hub lets an address do.
func (d *device) joinSoon(name string, token identity.Token) error {
	for end := time.Now().Add(timeout); ; {
		err := d.join(name, token)
		if answer.CodeOf(err) != answer.Unavailable || time.Now().After(end) || !pause.For(context.Background(), 20*time.Millisecond) {
			return err
		}
	}
}

func TestATokenOfTheMeshIsRedeemedOnceByWhicheverHubHasTheStore(t *testing.T) {
	t.Parallel() // it waits, most of the time
	m, hubs := withStore(t, 2, keepCA)
	mesh := hubs[0].ca.Mesh()
	token := hubs[0].token("bob", mesh)
	const each = 4
	devices, errs := make([]*device, 2*each), make(chan error, 2*each)
	for i := range devices {
		devices[i] = hubs[i%2].unjoined("bob")
		go func() { errs <- devices[i].joinSoon("box"+strconv.Itoa(i), token) }()
	}
	joined := 0
	for range devices {
		if err := <-errs; err == nil {
			joined++
		} else if answer.CodeOf(err) != answer.Denied {
			t.Errorf("a device that was late: %v", err)
		}
	}
	if joined != 1 {
		t.Errorf("%d devices have joined with one token", joined)
	}

	lost, other := hubs[0].unjoined("bob"), hubs[1].unjoined("bob")
	next := hubs[0].token("bob", mesh)
	m.Set(etcdtest.Alone)
	wantRefusal(t, lost.join("web", next), 503, "store")
	m.Set(etcdtest.Well)
	eventually(t, "another device gets in by the other hub", func() bool { return other.join("www", next) == nil })
	lost.hub, other.hub = hubs[1], hubs[0]
	wantRefusal(t, lost.joinSoon("web", next), 403, "used")
	if err := other.joinSoon("www", next); err != nil {
		t.Errorf("the same device asks the other hub: %v", err)
	}
}

func TestATokenOfTheMeshThatIsVoidAtOneHubIsVoidAtAll(t *testing.T) {
	t.Parallel() // it waits, most of the time
	m, hubs := withStore(t, 2, keepCA)
	token := hubs[0].token("bob", hubs[0].ca.Mesh())
	path := tunnel.PathTokens + "/" + token.ID()
	void := tunnel.TokenUse{Expires: unixtime.Of(token.Expires())}
	root, elsewhere := hubs[0].device("root"), hubs[1].device("root")
	m.Set(etcdtest.Alone)
	wantRefusal(t, root.session().Call(t.Context(), "DELETE", path, nil, void, nil), 503, "not void at every hub yet")
	m.Set(etcdtest.Well)
	eventually(t, "it is void", func() bool { return root.session().Call(t.Context(), "DELETE", path, nil, void, nil) == nil })
	var use tunnel.TokenUse
	eventually(t, "the other hub knows", func() bool {
		return elsewhere.session().Call(t.Context(), "GET", path, nil, nil, &use) == nil && use.Revoked
	})
	wantRefusal(t, hubs[1].unjoined("bob").joinSoon("box", token), 403, "revoked")
}

func TestATokenOfTheMeshIsNotForAHubWithoutTheStoreOrTheKey(t *testing.T) {
	alone := start(t, keepCA)
	wantRefusal(t, alone.unjoined("bob").join("box", alone.token("bob", alone.ca.Mesh())), 503, "this hub is none of them")
	nonce := strings.Repeat("a", 32)
	for _, redeemer := range []identity.ID{alone.started.ID, alone.ca.Mesh()} {
		for _, method := range []string{"GET", "DELETE"} {
			err := alone.device("root").session().Call(t.Context(), method, tunnel.PathTokens+"/"+nonce, url.Values{"redeemer": {string(redeemer)}}, tunnel.TokenUse{}, nil)
			if redeemer == alone.ca.Mesh() {
				wantRefusal(t, err, 503, "this hub has none")
			} else if err != nil {
				t.Errorf("a token of its own: %v", err)
			}
		}
	}
	_, hubs := withStore(t, 1)
	wantRefusal(t, hubs[0].unjoined("bob").join("box", hubs[0].token("bob", hubs[0].ca.Mesh())), 503, "this hub is none of them")
}
