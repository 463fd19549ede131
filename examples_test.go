package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withExample is a mesh where root has an example installed, in Python, and lets bob use it.
func withExample(t *testing.T, name string) *world {
	t.Helper()
	needsApps(t, "python3")
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("root", "app", "install", "--yes", example(t, name))
	w.ztm("root", "app", "grant", name, "bob")
	return w
}

func TestTheGuestBookOfTheExamplesKeepsWhoWrote(t *testing.T) {
	w := withExample(t, "guestbook")
	w.ztm("bob", "ep", "ep-root", "app", "call", "root/guestbook", "/", "-d", "I was\nhere <b>")
	if book := w.ztm("root", "app", "call", "guestbook"); !strings.HasSuffix(book, " bob: I was here <b>\n") {
		t.Errorf("the book says %q", book)
	}
	w.ztm("root", "app", "restart", "guestbook")
	if book := w.ztm("root", "app", "call", "guestbook"); !strings.Contains(book, "bob") {
		t.Errorf("after a restart the book says %q", book)
	}
}

func TestTheGuestBookTakesTheFormOfItsPage(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	probes := w.probes()
	w.join("root", "root")
	w.ztm("root", "app", "install", "--yes", example(t, "guestbook"))
	c, err := probes["ep-root"].mesh.Open(t.Context(), w.endpoint("ep-root").ID, "app/http/root/guestbook", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	form := url.Values{"text": {"1 + 1 = 2 & <b>"}}.Encode()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(form), form)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		t.Errorf("the browser is answered %+v, %v", resp, err)
	}
	if book := w.ztm("root", "app", "call", "guestbook"); !strings.HasSuffix(book, " root: 1 + 1 = 2 & <b>\n") {
		t.Errorf("the book says %q", book)
	}
}

// TestTheStreamsOfThePageEndInEachDirectionByThemselves: what docs/apps.md shows is put together to an app.
func TestTheStreamsOfThePageEndInEachDirectionByThemselves(t *testing.T) {
	needsApps(t, "python3")
	text, err := os.ReadFile("docs/apps.md")
	if err != nil {
		t.Fatal(err)
	}
	program := "#!/usr/bin/env python3\nimport http.server, os, socket, urllib.parse\n"
	for block := range strings.SplitSeq(string(text), "```\n") {
		if strings.HasPrefix(block, "class ") || strings.HasPrefix(block, "def ") {
			program += block
		}
	}
	program += `
def ask(self):
    if self.path != "/ask":
        return count(self)
    with stream(self.headers["Ztm-Peer-Id"], "count") as flow:
        flow.sendall(b"x" * 100000)
        flow.shutdown(socket.SHUT_WR)
        text = flow.makefile("rb").read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)


count, Handler.do_GET = Handler.do_GET, ask
Server(("mesh", 0), Handler).serve_forever()
`
	w := newWorld(t)
	w.join("root", "root")
	dir := w.path("streams")
	err = errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "main.py"), []byte(program), 0o700),
		os.WriteFile(filepath.Join(dir, "app.json"), []byte(`{"name": "streams", "version": "1", "exec": {"any": ["main.py"]}}`), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	w.ztm("root", "app", "install", "--yes", dir)
	if got := w.ztm("root", "app", "call", "streams", "/ask"); got != "100000 bytes\n" {
		t.Errorf("the stream says %q", got)
	}
}

func TestTheChatOfTheExamplesHasAPageAndSaysWhoSpoke(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "app", "install", "--yes", example(t, "chat"))
	if page := w.ztm("root", "app", "call", "chat"); !strings.Contains(page, "<h1>Chat</h1>") {
		t.Errorf("the page is %q", page)
	}
	w.ztm("root", "app", "call", "chat", "/say", "-d", "hello all")
	var said []struct{ User, Text string }
	if err := json.Unmarshal([]byte(w.ztm("root", "app", "call", "chat", "/last")), &said); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || said[0].User != "root" || said[0].Text != "hello all" {
		t.Errorf("said was %+v", said)
	}
}

// TestNobodySpeaksInAnotherNameByABodyThatIsNotRead: the chat does not read the body of a GET, and takes
// what follows on a connection for the next request.
func TestNobodySpeaksInAnotherNameByABodyThatIsNotRead(t *testing.T) {
	w := withExample(t, "chat")
	const forged = "POST /say HTTP/1.1\r\nHost: ztm\r\nZtm-Peer-User: root\r\nContent-Length: 5\r\n\r\nhello"
	w.ztm("bob", "ep", "ep-root", "app", "call", "root/chat", "/last", "-X", "GET", "-d", forged)
	w.ztm("bob", "ep", "ep-root", "app", "call", "root/chat", "/say", "-d", "it is me")
	if said := w.ztm("root", "app", "call", "chat", "/last"); !strings.Contains(said, "it is me") || strings.Contains(said, "hello") {
		t.Errorf("said was %s", said)
	}
}

func TestWhatIsOpenEndsWhenTheGrantIsTakenBack(t *testing.T) {
	w := withExample(t, "chat")
	ended := w.running("bob", "ep", "ep-root", "app", "call", "root/chat", "/events")
	w.until("bob listens", func() error {
		var a struct{ Status struct{ Flows int } }
		if err := json.Unmarshal([]byte(w.ztm("root", "describe", "app", "chat", "-o", "json")), &a); err != nil {
			return err
		}
		if a.Status.Flows != 1 {
			return fmt.Errorf("%d flows", a.Status.Flows)
		}
		return nil
	})
	w.ztm("root", "app", "revoke", "chat", "bob")
	<-ended
}

func TestTheCollectorOfTheExamplesAsksAllEndpointsOfItsUser(t *testing.T) {
	needsApps(t, "go")
	w := newWorld(t)
	dir := w.path("metrics")
	if err := os.CopyFS(dir, os.DirFS(example(t, "metrics"))); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "metrics", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	w.join("root", "root")
	w.startAgent("second")
	w.ztm("second", "join", "demo", "--as", "ep-second", "--permit", w.path("root.json"))
	w.connected("second")
	for _, name := range []string{"root", "second"} {
		w.ztm(name, "app", "install", "--yes", dir)
	}
	w.until("both endpoints are measured", func() error {
		text, errs, status := w.try("root", "app", "call", "metrics")
		var all map[string]struct{ Load, Error string }
		if status != 0 || json.Unmarshal([]byte(text), &all) != nil {
			return errors.New(text + errs)
		}
		for _, name := range []string{"ep-root", "ep-second"} {
			if s, ok := all[name]; !ok || s.Error != "" {
				return fmt.Errorf("%s: %s", name, text)
			}
		}
		return nil
	})
}

// example returns the directory of an app of the examples.
func example(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("docs", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
