package file

import (
	"os"
	"path/filepath"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// claimant is an app at an endpoint of alice, and an inbox of ten bytes of each other user.
func claimant(t *testing.T) (*App, Inbox) {
	t.Helper()
	var n appstest.Net
	app, _ := n.Join("office", "alice").Start(t, Name, New)
	return app.(*App), Inbox{Dir: apps.Bytes(t.TempDir()), Quota: 10}
}

// has puts a file of bob into an inbox.
func (i Inbox) has(t *testing.T, name string, size int) {
	t.Helper()
	dir := filepath.Join(i.dir(), "bob")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsOfferedCountsOnceWhileItArrivesAndWhenItHasCome(t *testing.T) {
	a, in := claimant(t)
	bob := apps.Peer{User: "bob"}
	offers := func(size int64) (release func(bool), ok bool) {
		release, err := a.claim(in, bob, []Item{{Path: apps.Bytes("x"), Size: size}})
		return release, err == nil
	}
	first, ok := offers(6)
	if !ok {
		t.Fatal("there is room for six of ten")
	}
	in.has(t, "one", 5) // of the six
	second, ok := offers(4)
	if !ok {
		t.Fatal("while six come, of which five are here, there is no room for four")
	}
	if _, ok := offers(1); ok {
		t.Error("eleven were taken while ten come")
	}
	in.has(t, "two", 1)
	first(true)
	if _, ok := offers(1); ok {
		t.Error("eleven were taken, of which six are here and four come")
	}
	second(false)
	third, ok := offers(4)
	if !ok {
		t.Fatal("four were not wanted, and there is no room for four others")
	}
	if _, ok := offers(1); ok {
		t.Error("eleven were taken")
	}
	third(false)
	if _, ok := offers(5); ok {
		t.Error("five were taken beside six that are here")
	}
}

func TestAnOfferThatWasNotWantedLeavesItsRoomToOthers(t *testing.T) {
	a, in := claimant(t)
	bob := apps.Peer{User: "bob"}
	waits, err := a.claim(in, bob, []Item{{Path: apps.Bytes("x"), Size: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer waits(false)
	for range 3 {
		release, err := a.claim(in, bob, []Item{{Path: apps.Bytes("y"), Size: 8}})
		if err != nil {
			t.Fatal(err)
		}
		release(false)
	}
}

func TestNobodyWaitsWhileTheInboxOfAnotherUserIsLookedThrough(t *testing.T) {
	a, in := claimant(t)
	offer := []Item{{Path: apps.Bytes("x"), Size: 1}}
	looking, looked := make(chan struct{}), make(chan struct{})
	carol := a.claims.enter("carol")
	go carol.look.Do(func() { close(looking); <-looked })
	<-looking
	claimed := make(chan error, 2)
	claim := func(user string) {
		_, err := a.claim(in, apps.Peer{User: user}, offer)
		claimed <- err
	}
	go claim("carol")
	appstest.Eventually(t, "carol has two offers", func() bool {
		a.claims.mu.Lock()
		defer a.claims.mu.Unlock()
		return carol.open == 2
	})
	go claim("bob")
	if err := <-claimed; err != nil {
		t.Error(err)
	}
	close(looked)
	if err := <-claimed; err != nil {
		t.Error(err)
	}
}
