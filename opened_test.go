package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
)

// shownAt is what a browser is shown at an address.
func shownAt(t *testing.T, browser *http.Client, address string) (status int, body string) {
	t.Helper()
	resp, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if first, leads := strings.CutPrefix(resp.Header.Get("Refresh"), "0; url="); leads {
		next, err := resp.Request.URL.Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		return shownAt(t, browser, next.String())
	}
	return resp.StatusCode, string(text)
}

func TestTheConsoleOpensTheAppsOfAllEndpointsOfTheUserEachAtItsOwnOrigin(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.join("root", "root")
	w.startAgent("second")
	w.ztm("second", "join", "demo", "--as", "ep-second", "--permit", w.path("root.json"))
	w.connected("second")
	w.ztm("root", "app", "install", "--yes", example(t, "chat"))
	w.ztm("second", "app", "install", "--yes", example(t, "guestbook"))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	here, there := w.endpoint("ep-root").ID, w.endpoint("ep-second").ID
	open := func(in map[string]any) string {
		var opened struct{ URL string }
		if err := json.Unmarshal(w.call("root", "POST", "/api/meshes/demo/endpoints/"+string(here)+"/apps/app/open", in), &opened); err != nil {
			t.Fatal(err)
		}
		return opened.URL
	}
	chat, guests := open(map[string]any{"app": "root/chat"}), open(map[string]any{"app": "root/guestbook", "endpoint": there, "page": "/book"})
	for address, want := range map[string]string{chat: "<h1>Chat</h1>", guests: ""} {
		if status, body := shownAt(t, browser, address); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", address, status, body)
		}
	}
	origin, _, _ := strings.Cut(chat, "?")
	if status, body := shownAt(t, browser, origin); status != 200 || !strings.Contains(body, "<h1>Chat</h1>") {
		t.Errorf("the other origin took the cookie of the first: %d %s", status, body)
	}
	for address, client := range map[string]*http.Client{chat: browser, origin: http.DefaultClient} {
		if status, _ := shownAt(t, client, address); status != 403 {
			t.Errorf("who has no right to %s: %d", address, status)
		}
	}
	w.ztm("root", "app", "call", "chat", "/say", "-d", "hello all")
	resp, err := browser.Get(origin + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); !strings.Contains(line, "hello all") {
		t.Errorf("of what is said the page hears %q, %v", line, err)
	}
}
