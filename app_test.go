package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	programs "ztm/apps/external/run"
)

// needsApps skips a test where apps of others cannot be held, or what they are written in is not
// there.
func needsApps(t testing.TB, interpreter string) {
	t.Helper()
	if _, err := exec.LookPath(interpreter); err != nil {
		t.Skip(err)
	}
	if _, err := programs.NewGroup("test").Means(); err != nil {
		t.Skip(err)
	}
}

func TestAnAppIsPublishedInstalledByAnotherUserAndUsedByAThird(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.cloudAt("root", "root")
	w.cloudAt("bob", "bob")
	w.join("carol", "carol")
	dir := w.path("hello")
	w.ztm("root", "app", "init", dir)
	w.ztm("root", "app", "publish", dir, "--share", "bob")
	w.until("bob finds the app", func() error {
		if _, errs, status := w.try("bob", "app", "install", "--yes", "root/hello"); status != 0 {
			return errors.New(errs)
		}
		return nil
	})
	if got := w.ztm("bob", "app", "call", "hello"); got != "Hello bob, this is hello.\n" {
		t.Errorf("bob is answered %q", got)
	}
	if shown := w.ztm("bob", "describe", "app", "hello"); !strings.Contains(shown, "ep-root ("+string(w.endpoint("ep-root").ID)+") of root") {
		t.Errorf("who signed is not shown:\n%s", shown)
	}
	if list := w.ztm("root", "ep", "ep-root", "get", "app"); !strings.Contains(list, "tunnel") || strings.Count(list, "built in") < 3 {
		t.Errorf("the apps of ztm are not listed:\n%s", list)
	}
	if shown := w.ztm("root", "describe", "app", "tunnel"); !strings.Contains(shown, "built in") {
		t.Errorf("the app tunnel is described as\n%s", shown)
	}
	ask := []string{"ep", "ep-bob", "app", "call", "root/hello"}
	if _, _, status := w.try("carol", ask...); status == 0 {
		t.Error("before the grant carol was answered")
	}
	w.ztm("bob", "app", "grant", "hello", "carol")
	if got := w.ztm("carol", ask...); got != "Hello carol, this is hello.\n" {
		t.Errorf("carol is answered %q", got)
	}
	w.ztm("bob", "app", "revoke", "hello", "carol")
	if _, _, status := w.try("carol", ask...); status == 0 {
		t.Error("after the grant was taken back carol was answered")
	}
	w.upgraded(dir)
	if _, errs, status := w.try("bob", "app", "upgrade", "hello"); status != 0 || !strings.Contains(errs, "already") {
		t.Errorf("an upgrade to what is there: status %d, %s", status, errs)
	}
	w.ztm("bob", "app", "rollback", "hello")
	if got := w.ztm("bob", "app", "call", "hello"); got != "Hello bob, this is hello.\n" {
		t.Errorf("after the rollback bob is answered %q", got)
	}
}

func TestAnAppThatIsTriedOutIsKnownByItsName(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	stop := w.join("root", "root")
	dir := w.path("hello")
	w.ztm("root", "app", "init", dir)
	ended := w.running("root", "app", "run", dir)
	w.until("the app answers", func() error {
		if got, errs, _ := w.try("root", "app", "call", "hello"); got != "Hello root, this is hello.\n" {
			return errors.New(got + errs)
		}
		return nil
	})
	if shown := w.ztm("root", "describe", "app", "hello"); !strings.Contains(shown, "running (tried out)") {
		t.Errorf("it is described as\n%s", shown)
	}
	if log := w.ztm("root", "app", "log", "hello"); !strings.Contains(log, "GET /") {
		t.Errorf("its log is %q", log)
	}
	w.ztm("root", "app", "install", "--yes", dir)
	if got := w.ztm("root", "app", "call", "hello"); got != "Hello root, this is hello.\n" {
		t.Errorf("installed and tried out it answers %q", got)
	}
	stop()
	<-ended
}

// TestWhoMayUseAnAppNoLongerHasNoRequestInIt holds for what was begun before.
func TestWhoMayUseAnAppNoLongerHasNoRequestInIt(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	probes := w.probes()
	for _, name := range []string{"root", "bob", "carol"} {
		w.join(name, name)
	}
	w.ztm("bob", "app", "install", "--yes", example(t, "chat"))
	listens := func(name string) (in *bufio.Reader) {
		c, err := probes["ep-"+name].mesh.Open(t.Context(), w.endpoint("ep-bob").ID, "app/http/bob/chat", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		in = bufio.NewReader(c)
		if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		return in
	}
	own := listens("bob")
	for _, takeAway := range [][]string{{"bob", "app", "revoke", "chat", "carol"}, {"root", "evict", "carol", "--force"}} {
		w.ztm("bob", "app", "grant", "chat", "carol")
		hers := make(chan error, 1)
		in := listens("carol")
		go func() { // ends with the flow
			_, err := io.Copy(io.Discard, in)
			hers <- err
		}()
		w.ztm(takeAway[0], takeAway[1:]...)
		select {
		case err := <-hers:
			if err == nil {
				t.Errorf("%v: the answer seems to be whole", takeAway)
			}
		case <-time.After(appstest.Timeout):
			t.Errorf("%v: the answer goes on", takeAway)
		}
	}
	w.ztm("bob", "app", "call", "chat", "/say", "-d", "still here")
	for {
		line, err := own.ReadString('\n')
		if err != nil {
			t.Fatalf("the answer to another ends, too: %v", err)
		}
		if strings.Contains(line, "still here") {
			return
		}
	}
}

// upgraded publishes another version of the app hello, and has bob upgrade to it.
func (w *world) upgraded(dir string) {
	w.t.Helper()
	file := filepath.Join(dir, "main.py")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), "Hello", "Welcome", 1)), 0o755)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.ztm("root", "app", "publish", dir, "--share", "bob")
	w.until("bob has the second version", func() error {
		if _, errs, status := w.try("bob", "app", "upgrade", "hello"); status != 0 {
			return errors.New(errs)
		}
		if got := w.ztm("bob", "app", "call", "hello"); got != "Welcome bob, this is hello.\n" {
			return errors.New(got)
		}
		return nil
	})
}
