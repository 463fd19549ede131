package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/console"
	browser "ztm/agent/web"
	"ztm/apps"
	"ztm/apps/appstest"
)

// signIn asks for a console as a person does and returns its origin, and the key of a page of it.
func (w *world) signIn(name string, options ...string) (origin, key string) {
	w.t.Helper()
	printed := w.ztm(name, append([]string{"console", "--no-open"}, options...)...)
	origin, code, ok := strings.Cut(strings.TrimSpace(printed), "/#")
	if !ok {
		w.t.Fatalf("printed %q", printed)
	}
	var in struct{ Key string }
	status, body := browse(w.t, "POST", origin+"/session", "", `{"code":"`+code+`"}`)
	if status != 200 || json.Unmarshal([]byte(body), &in) != nil {
		w.t.Fatalf("signing in: %d %s", status, body)
	}
	return origin, in.Key
}

// browse sends a request as a page with the key.
func browse(t testing.TB, method, url, key, body string) (int, string) {
	t.Helper()
	return appstest.Ask(t, method, url, body, browser.KeyHeader, key)
}

func TestTheConsoleShowsWhatTheCommandLineShowsAndIsShutBeforeAndAfter(t *testing.T) {
	w := newWorld(t)
	w.options.Console = func(h browser.Host) http.Handler { return browser.New(h) }
	w.join("laptop", "root")
	w.options.Console = nil
	w.join("nas", "root")
	address := appstest.FreeAddress(t)
	listens := func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	if listens() {
		t.Fatal("something listens before anybody has asked")
	}
	_, port, _ := strings.Cut(address, ":")
	origin, key := w.signIn("laptop", "--port", port)
	if origin != "http://"+address || !listens() {
		t.Errorf("the console is at %s", origin)
	}
	status, body := browse(t, "GET", origin+"/api/meshes/demo/endpoints", key, "")
	var all []apps.Endpoint
	if err := json.Unmarshal([]byte(body), &all); status != 200 || err != nil || len(all) != 2 {
		t.Errorf("endpoints: %d %s", status, body)
	}
	for _, ep := range all { // one's other endpoint shows the same from here
		if status, body := browse(t, "GET", origin+"/api/meshes/demo/endpoints/"+string(ep.ID)+"/apps/tunnel/tunnels", key, ""); status != 200 {
			t.Errorf("tunnels of %s: %d %s", ep.Name, status, body)
		}
	}
	if status, body := browse(t, "GET", origin+"/api/meshes/demo/ca", key, ""); status != 404 || strings.Contains(body, "PRIVATE") {
		t.Errorf("the key of the mesh: %d %s", status, body)
	}
	if _, stderr, status := w.try("nas", "console", "--no-open"); status != 1 || !strings.Contains(stderr, "built without") {
		t.Errorf("an agent without a console: %d %s", status, stderr)
	}
	w.ztm("laptop", "console", "--lock")
	if listens() {
		t.Error("something listens after --lock")
	}
	if log := w.logs["laptop"].String(); strings.Contains(log, key) {
		t.Error("the key is in the log")
	}
}

// TestNothingHereMakesPages holds what keeps two megabytes out of the binary: a template calls
// methods by name, so that the linker keeps all of them.
func TestNothingHereMakesPages(t *testing.T) {
	appstest.Long(t)
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := "\n" + string(out)
	for _, never := range []string{"html/template", "net/http/pprof"} {
		if strings.Contains(all, "\n"+never+"\n") {
			t.Errorf("the program is made with %s", never)
		}
	}
	if !strings.Contains(all, "\nztm/agent/web\n") {
		t.Error("the packages were not listed")
	}
}

// TestTheCommandsThatTheConsoleShowsAreUnderstood reads what the browser suite has seen on all pages.
func TestTheCommandsThatTheConsoleShowsAreUnderstood(t *testing.T) {
	text, err := os.ReadFile("scripts/webtest/commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := console.New(console.Config{})
	seen := 0
	for line := range strings.Lines(string(text)) {
		words := shellWords(strings.TrimSpace(line))
		if err := c.Check(words[1:], commands(c), false); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
		seen++
	}
	if seen < 20 {
		t.Errorf("only %d commands", seen)
	}
}

// TestTheConsoleOfAnEvictedUserSaysSoAndReachesNobody holds that a page has no more than the command line,
// whatever it was let in for.
func TestTheConsoleOfAnEvictedUserSaysSoAndReachesNobody(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("nas", "bob")
	w.options.Console = func(h browser.Host) http.Handler { return browser.New(h) }
	w.join("phone", "bob")
	_, port, _ := strings.Cut(appstest.FreeAddress(t), ":")
	origin, key := w.signIn("phone", "--port", port)
	nas := ""
	var eps []apps.Endpoint
	if err := json.Unmarshal([]byte(w.ztm("phone", "get", "ep", "-o", "json")), &eps); err != nil {
		t.Fatal(err)
	}
	for _, ep := range eps {
		if ep.Name == "ep-nas" {
			nas = string(ep.ID)
		}
	}
	paths := []string{"endpoints/" + nas + "/apps/tunnel/tunnels", "endpoints/" + nas + "/log"}
	for _, path := range paths {
		if status, body := browse(t, "GET", origin+"/api/meshes/demo/"+path, key, ""); status != 200 {
			t.Fatalf("%s before: %d %s", path, status, body)
		}
	}
	w.ztm("root", "evict", "bob")
	w.until("the page says that it was evicted", func() error {
		var all []api.Mesh
		status, body := browse(t, "GET", origin+"/api/meshes", key, "")
		if err := json.Unmarshal([]byte(body), &all); err != nil || status != 200 || len(all) != 1 || !strings.Contains(all[0].Error, "evicted") {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	for _, path := range paths {
		if status, body := browse(t, "GET", origin+"/api/meshes/demo/"+path, key, ""); status < 400 {
			t.Errorf("%s after: %d %s", path, status, body)
		}
	}
	if _, stderr, status := w.try("phone", "ep", "ep-nas", "get", "outbound"); status == 0 {
		t.Errorf("the command line reaches what the page does not: %s", stderr)
	}
}
