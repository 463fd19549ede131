package etcd_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/store/etcd"
	"ztm/store/etcd/etcdtest"
)

// two is a client of a cluster of two members, of which it asks the first.
func two(t *testing.T) (*etcdtest.Cluster, *etcd.Client, [2]*etcdtest.Member) {
	cluster := etcdtest.New()
	m := [2]*etcdtest.Member{member(t, cluster), member(t, cluster)}
	return cluster, client(t, etcd.Config{Endpoints: []string{m[0].URL, m[1].URL}}), m
}

func TestTheNextEndpointIsAskedInAMoment(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault etcdtest.Fault
		again bool
	}{
		{"frozen", etcdtest.Frozen, true},
		{"without a leader", etcdtest.Alone, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, c, m := two(t)
			m[0].Set(tt.fault)
			if r := create(t, c, "k", "v"); !r.Done || r.Again != tt.again {
				t.Errorf("%+v", r)
			}
			if c.Endpoint() != m[1].URL {
				t.Error("it has not stayed where it got an answer")
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		cluster, c, m := two(t)
		m[0].Close()
		if r := create(t, c, "k", "v"); !r.Done || r.Again {
			t.Errorf("%+v", r)
		}
		if cluster.Writes() != 1 {
			t.Errorf("%d writes", cluster.Writes())
		}
	})
}

func TestACallerThatGivesUpMovesNobody(t *testing.T) {
	_, c, m := two(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, "k"); !errors.Is(err, etcd.ErrUnknown) && !errors.Is(err, etcd.ErrUnavailable) {
		t.Errorf("%v, want no answer", err)
	}
	if c.Endpoint() != m[0].URL {
		t.Error("it has left an endpoint that did nothing wrong, and watches with it")
	}
}

func TestAChangeWhoseAnswerGotLostIsReadBack(t *testing.T) {
	t.Parallel()
	cluster, c, m := two(t)
	m[0].Set(etcdtest.Loses)
	r := create(t, c, "k", "mine")
	if r.Done || !r.Again || string(r.Found["k"].Value) != "mine" {
		t.Errorf("%+v", r)
	}
	if cluster.Writes() != 1 {
		t.Errorf("%d writes", cluster.Writes())
	}
}

func TestUnknownIsNotNo(t *testing.T) {
	appstest.Long(t)
	t.Parallel()
	cluster := etcdtest.New()
	m := member(t, cluster)
	c := client(t, etcd.Config{Endpoints: []string{m.URL}})
	txn := etcd.Txn{If: []etcd.Condition{{Key: "k"}}, Then: []etcd.Op{etcd.Put("k", []byte("v"), 0)}}
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		_, err := c.Txn(ctx, txn)
		return err
	}
	m.Set(etcdtest.Loses)
	if err := ask(); !errors.Is(err, etcd.ErrUnknown) {
		t.Errorf("its answer was lost: %v", err)
	}
	if len(cluster.Keys("k")) != 1 {
		t.Error("it was not carried out")
	}
	m.Set(etcdtest.Alone)
	if err := ask(); !errors.Is(err, etcd.ErrUnavailable) || errors.Is(err, etcd.ErrUnknown) {
		t.Errorf("it was refused: %v", err)
	}
	m.Close()
	c = client(t, etcd.Config{Endpoints: []string{m.URL}}) // a connection that was there could have carried it
	if err := ask(); !errors.Is(err, etcd.ErrUnavailable) || errors.Is(err, etcd.ErrUnknown) {
		t.Errorf("nobody was asked: %v", err)
	}
}

func TestWhatIsFinalIsNotAskedTwice(t *testing.T) {
	_, c, m := two(t)
	m[0].Set(etcdtest.Full)
	_, err := c.Txn(t.Context(), etcd.Txn{If: []etcd.Condition{{Key: "k"}}, Then: []etcd.Op{etcd.Put("k", nil, 0)}})
	var answer *etcd.Error
	if !errors.As(err, &answer) || answer.Code != 8 || c.Endpoint() != m[0].URL {
		t.Errorf("%v, at %s", err, c.Endpoint())
	}
}

func TestADeafWatchEndsWithTheSignOfLife(t *testing.T) {
	t.Parallel()
	_, c, m := two(t)
	id, err := c.Grant(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	at := create(t, c, "p/1", "1").Revision
	said, ended := follow(t, c, at)
	create(t, c, "p/2", "2")
	appstest.Eventually(t, "the watch works", func() bool { return said() == "p/2=2" })
	m[0].Set(etcdtest.Frozen)
	if alive, err := c.KeepAlive(t.Context(), id); err != nil || !alive {
		t.Error(alive, err)
	}
	want(t, ended, etcd.ErrMoved)
	said, _ = follow(t, c, at+1)
	create(t, c, "p/3", "3")
	appstest.Eventually(t, "the watch at the other endpoint works", func() bool { return said() == "p/3=3" })
}

func TestAWatchAtAMemberThatIsFrozenEnds(t *testing.T) {
	t.Parallel()
	_, c, m := two(t)
	m[0].Set(etcdtest.Frozen)
	_, ended := follow(t, c, 1)
	want(t, ended, etcd.ErrMoved)
}

func TestATokenThatIsVoidIsAskedForAgain(t *testing.T) {
	cluster := etcdtest.New()
	m := member(t, cluster)
	cluster.AskFor("ztm:secret")
	c := client(t, etcd.Config{Endpoints: []string{m.URL}, User: "ztm", Password: "secret"})
	at := create(t, c, "p/1", "1").Revision
	cluster.ForgetTokens()
	_, ended := follow(t, c, at)
	want(t, ended, etcd.ErrEnded) // it is "created", and canceled
	create(t, c, "p/2", "2")
	said, _ := follow(t, c, at)
	appstest.Eventually(t, "the watch works", func() bool { return said() == "p/2=2" })

	wrong := client(t, etcd.Config{Endpoints: []string{m.URL}, User: "ztm", Password: "guessed"})
	var answer *etcd.Error
	if _, err := wrong.Get(t.Context(), "p/1"); !errors.As(err, &answer) || answer.Code != 3 {
		t.Errorf("%v", err)
	}
}

func TestARestoredClusterEndsWatches(t *testing.T) {
	for name, sameID := range map[string]bool{"made anew": false, "with its old ID": true} {
		t.Run(name, func(t *testing.T) {
			cluster, c, _ := two(t)
			create(t, c, "p/1", "1")
			old := cluster.Snapshot()
			at := create(t, c, "p/2", "2").Revision
			said, ended := follow(t, c, at-1)
			appstest.Eventually(t, "the watch works", func() bool { return said() == "p/2=2" })
			cluster.Restore(old, sameID)
			if kv, err := c.Get(t.Context(), "p/2"); err != nil || kv.Revision != 0 {
				t.Fatal(kv, err)
			}
			want(t, ended, etcd.ErrRestored)
		})
	}
}

func TestSomethingElseOnThePortIsNotEtcd(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("220 mail\r\n"))
			conn.Close()
		}
	}()
	c := client(t, etcd.Config{Endpoints: []string{"http://" + ln.Addr().String()}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.Get(ctx, "k"); !errors.Is(err, etcd.ErrUnknown) && !errors.Is(err, etcd.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
