package learn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// teller is a hostile endpoint, which tells what it likes of its index.
type teller struct {
	apps.Host
	tell func(to io.Writer)
}

func (t *teller) Name() string                  { return "cloud" }
func (t *teller) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (t *teller) Left(func(apps.Peer) bool)     {}
func (t *teller) API() http.Handler             { return http.NotFoundHandler() }

func (t *teller) Serve(_ context.Context, f apps.Flow) {
	if c, err := f.Accept(); err == nil {
		t.tell(c)
		c.Close()
	}
}

// newLearner returns a Learner, and an endpoint that tells it so.
func newLearner(t *testing.T, tell func(io.Writer)) (*Learner, identity.ID) {
	t.Helper()
	var n appstest.Net
	h, eve := n.Join("b", "bob"), n.Join("e", "eve")
	var host apps.Host
	h.New("cloud", func(is apps.Host) apps.App { host = is; return nil })
	x, err := index.Load(host.State, host.Notary)
	if err != nil {
		t.Fatal(err)
	}
	eve.Start(t, "cloud", func(is apps.Host) apps.App { return &teller{is, tell} })
	return New(Config{Name: "cloud", Mesh: host.Mesh, Index: x, Log: host.Log}), eve.Self().ID
}

func TestAPeerThatAlwaysHasMoreIsAskedNoLonger(t *testing.T) {
	times := 0
	l, eve := newLearner(t, func(to io.Writer) {
		times++
		fmt.Fprintf(to, `{"epoch":"x","next":%d,"more":true}`+"\n", times)
	})
	if err := l.Pull(t.Context(), eve, "", true); err == nil || times != mostAsks {
		t.Errorf("it was asked %d times, %v", times, err)
	}
}

func TestAnAnswerWithoutEndIsCut(t *testing.T) {
	padding := bytes.Repeat([]byte(" "), 1<<20)
	var told atomic.Int64
	l, eve := newLearner(t, func(to io.Writer) {
		for told.Load() < 4*index.MaxBytes {
			if _, err := fmt.Fprintf(to, `{"epoch":"x","next":%d,"more":true%s}`+"\n", told.Load()+1, padding); err != nil {
				return
			}
			told.Add(int64(len(padding)))
		}
	})
	_, err := l.ask(t.Context(), eve, &known{}) // without the time that Pull gives it, which cuts it as well
	if got := told.Load(); err == nil || got > index.MaxBytes+4*index.MaxPage {
		t.Errorf("%d bytes were taken, %v", got, err)
	}
}

func TestAnEndpointThatDoesNotComeBackIsForgotten(t *testing.T) {
	l, _ := newLearner(t, nil)
	file := entry.Entry{Path: "file", Time: 1}
	c, _, _ := blocks.Sum(strings.NewReader("x"), 1)
	file.SetContent(c)
	if err := l.Index.Publish(entry.Author{ID: l.Mesh.Self().ID, User: "bob"}, []index.Published{{Entry: file}}); err != nil {
		t.Fatal(err)
	}
	file.User = "bob"
	for i := range 10 {
		id := identity.ID(fmt.Sprint("pod-", i))
		l.peer(id)
		l.Index.Told(&l.holders, id, &file, index.All)
		if got := l.Holders("bob", "file"); !slices.Contains(got, id) {
			t.Fatalf("%s told that it has the file, and %v have it", id, got)
		}
		for _, k := range l.peers {
			k.seen = time.Now().Add(-forgetAfter - time.Minute)
		}
		l.saw([]apps.Endpoint{{ID: "pod-3"}}) // which is online all the time
	}
	if got := l.Holders("bob", "file"); len(l.peers) != 2 || !slices.Equal(got, []identity.ID{"pod-3", "pod-9"}) {
		t.Errorf("%d endpoints are known, and %v have the file", len(l.peers), got)
	}
}
