package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// relay is an app that asks its agent what it is asked: "METHOD PATH" and a body, by lines.
const relay = `#!/usr/bin/env python3
import http.client, http.server, os, socket

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_UNIX
    def server_bind(self): self.socket = socket.socket(fileno=3)
    def server_activate(self): pass
    def get_request(self): return self.socket.accept()[0], ("mesh", 0)

class Agent(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["ZTM_API"])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        line, _, body = text.partition("\n")
        agent = Agent("ztm")
        agent.request(*line.split(" "), body)
        answer = agent.getresponse()
        self.send_response(answer.status)
        self.end_headers()
        if "/v1/watch" in line:
            return self.wfile.write(answer.readline())
        self.wfile.write(answer.read())

Server(("mesh", 0), Handler).serve_forever()
`

// relayApp installs the app relay at an endpoint, with rights.
func (w *world) relayApp(rights string, names ...string) {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "relay")
	if err := os.Mkdir(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	manifest := `{"name": "relay", "version": "1", "exec": {"any": ["main.py"]}, "rights": ` + rights + `}`
	for name, text := range map[string]string{"app.json": manifest, "main.py": relay} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	w.ztm("root", "app", "publish", dir, "--share", "*")
	for _, name := range names {
		w.until(name+" has the app", func() error {
			if _, errs, status := w.try(name, "app", "install", "--yes", "root/relay"); status != 0 {
				return errors.New(errs)
			}
			return nil
		})
	}
}

// asks has the relay of an endpoint ask its agent.
func (w *world) asks(name, request string) (answer string, ok bool) {
	out, errs, status := w.try(name, "app", "call", "root/relay", "/", "-d", request)
	return out + errs, status == 0
}

func TestAnAppSharesFilesOverTheCloudAndReadsThoseOfItsOwnElsewhere(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.cloudAt("root", "root")
	w.cloudAt("bob", "bob")
	w.relayApp(`{"files": true}`, "root", "bob")
	for _, request := range []string{"PUT /v1/files/notes/a.txt\nfirst", `PATCH /v1/readers/notes/` + "\n" + `{"add": ["bob"]}`} {
		if text, ok := w.asks("root", request); !ok {
			t.Fatalf("%s: %s", request, text)
		}
	}
	w.until("bob reads it", func() error {
		if text, ok := w.asks("bob", "GET /v1/files/root/notes/a.txt"); !ok || text != "first" {
			return errors.New(text)
		}
		return nil
	})
	var seen []struct{ User, Path, State string }
	if text, _ := w.asks("bob", "GET /v1/watch?prefix=notes/"); json.Unmarshal([]byte(text), &seen) != nil || len(seen) != 1 || seen[0].User != "root" || seen[0].Path != "notes/a.txt" {
		t.Errorf("bob sees %s", text)
	}
	for _, request := range []string{"GET /v1/files/root/notes/other", "DELETE /v1/files/notes/other", "PUT /v1/files/\nbytes"} {
		if text, ok := w.asks("bob", request); ok {
			t.Errorf("%s: %s", request, text)
		}
	}
	if text, ok := w.asks("root", "DELETE /v1/files/notes/a.txt"); !ok {
		t.Fatal(text)
	}
	if text, ok := w.asks("root", "GET /v1/files/"); !ok || strings.TrimSpace(text) != "[]" {
		t.Errorf("after it was erased: %s", text)
	}
}

func TestAnAppWithoutTheRightToFilesHasNone(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.cloudAt("root", "root")
	w.relayApp("{}", "root")
	for _, request := range []string{"GET /v1/files/", "PUT /v1/files/a\nbytes", "PATCH /v1/readers/a\n{}", "GET /v1/watch"} {
		if text, ok := w.asks("root", request); ok || !strings.Contains(text, "does not ask for the right to files") {
			t.Errorf("%s: %s", request, text)
		}
	}
}
