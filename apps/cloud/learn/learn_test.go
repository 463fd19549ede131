package learn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/index"
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

// asked returns what comes of asking an endpoint that tells so.
func asked(t *testing.T, tell func(io.Writer)) error {
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
	return New(Config{Name: "cloud", Mesh: host.Mesh, Index: x, Log: host.Log}).Pull(t.Context(), eve.Self().ID, "", true)
}

func TestAPeerThatAlwaysHasMoreIsAskedNoLonger(t *testing.T) {
	times := 0
	err := asked(t, func(to io.Writer) {
		times++
		fmt.Fprintf(to, `{"epoch":"x","next":%d,"more":true}`+"\n", times)
	})
	if err == nil || times != mostAsks {
		t.Errorf("it was asked %d times, %v", times, err)
	}
}

func TestAnAnswerWithoutEndIsCut(t *testing.T) {
	padding := bytes.Repeat([]byte(" "), 1<<20)
	var told atomic.Int64
	err := asked(t, func(to io.Writer) {
		for told.Load() < 4*index.MaxBytes {
			if _, err := fmt.Fprintf(to, `{"epoch":"x","next":%d,"more":true%s}`+"\n", told.Load()+1, padding); err != nil {
				return
			}
			told.Add(int64(len(padding)))
		}
	})
	if got := told.Load(); err == nil || got > index.MaxBytes+4*index.MaxPage {
		t.Errorf("%d bytes were taken, %v", got, err)
	}
}
