package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

// A rule of each app names group:ops. It is written in one way everywhere, means who is in the group
// at that moment, and what runs by it ends when they leave it.
func TestARuleOfEachAppMeansAGroupWhileSomebodyIsInIt(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	target := echo.Addr().String()
	dir := filepath.ToSlash(t.TempDir())
	for _, c := range []struct {
		app          string
		method, at   string // the rule, through the app's API
		rule         string
		path         string // what is opened
		query        url.Values
		staysUntilIt bool // the flow runs until it is ended
	}{
		{"tunnel", "POST", "/outbound/tcp/echo", `{"targets":["` + target + `"],"users":["group:ops"]}`, "tcp/echo", nil, true},
		{"tunnel", "POST", "/allow", `{"target":"` + target + `","users":["group:ops"]}`, "forward/tcp", url.Values{"target": {target}}, true},
		{"proxy", "POST", "/rules", `{"users":["group:ops"],"action":"allow"}`, "tcp", url.Values{"target": {target}}, true},
		{"terminal", "PATCH", "/config", `{"addUsers":["group:ops"]}`, "shell", nil, true},
		{"script", "PATCH", "/config", `{"addUsers":["group:ops"]}`, "run", nil, true},
		{"file", "PATCH", "/config", `{"allow":{"path":"` + dir + `","users":["group:ops"]}}`, "list", url.Values{"path": {dir}}, false},
		{"file", "PATCH", "/config", `{"addUsers":["group:ops"]}`, "inbox", nil, true},
	} {
		t.Run(c.app+" "+c.path, func(t *testing.T) {
			n := new(appstest.Net)
			owner, bob := n.Join("office", "alice"), n.Join("laptop", "bob")
			app := startKind(t, owner, c.app)
			if c.app == "proxy" {
				setRule(t, app, "PATCH", "/config", `{"addTargets":["127.0.0.0/8"]}`, http.StatusOK)
			}
			setRule(t, app, c.method, c.at, strings.Replace(c.rule, "group:ops", "group: ops", 1), http.StatusBadRequest)
			setRule(t, app, c.method, c.at, c.rule, http.StatusOK)
			open := func() (net.Conn, error) {
				return bob.Open(t.Context(), owner.Self().ID, c.app+"/"+c.path, c.query)
			}
			refused(t, open)
			var own <-chan struct{} // closed when a flow of the owner has ended, which nobody ends
			if c.staysUntilIt {
				conn, err := n.Join("phone", "alice").Open(t.Context(), owner.Self().ID, c.app+"/"+c.path, c.query)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				own = endOf(conn)
			}
			n.SetGroup("ops", "carol", "bob")
			conn, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			n.SetGroup("ops", "bob", "dora")
			other, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			n.SetGroup("ops", "carol")
			refused(t, open)
			if !c.staysUntilIt {
				return
			}
			for _, one := range []net.Conn{conn, other} {
				select {
				case <-endOf(one):
				case <-time.After(90 * time.Second):
					t.Fatal("what runs has not ended")
				}
			}
			select {
			case <-own:
				t.Error("what was opened before has ended by itself, and so perhaps the other has: this shows nothing")
			default:
			}
		})
	}
}

// endOf reads a connection and is closed when it has ended.
func endOf(c net.Conn) <-chan struct{} {
	ended := make(chan struct{})
	go func() { io.Copy(io.Discard, c); close(ended) }()
	return ended
}

// startKind starts an app of this binary at an endpoint.
func startKind(t *testing.T, h *appstest.Host, name string) apps.App {
	t.Helper()
	for _, k := range kinds() {
		if k.Name == name {
			app, _ := h.Start(t, name, k.New)
			return app
		}
	}
	t.Fatalf("there is no app %s", name)
	return nil
}

func setRule(t *testing.T, app apps.App, method, path, body string, want int) {
	t.Helper()
	w := httptest.NewRecorder()
	app.API().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if ok := w.Code < 300; ok != (want == http.StatusOK) {
		t.Fatalf("%s %s %s: %d %s", method, path, body, w.Code, w.Body)
	}
}

func refused(t *testing.T, open func() (net.Conn, error)) {
	t.Helper()
	if c, err := open(); answer.CodeOf(err) != answer.Denied {
		if err == nil {
			c.Close()
		}
		t.Errorf("who is not in the group: %v, want %s", err, answer.Denied)
	}
}

func TestADenyRuleOfTheProxyNamesNoGroup(t *testing.T) {
	n := new(appstest.Net)
	app := startKind(t, n.Join("office", "alice"), "proxy")
	for _, term := range []string{"group:ops", "label:x", apps.ByPolicy} {
		setRule(t, app, "POST", "/rules", fmt.Sprintf(`{"users":[%q],"action":"deny"}`, term), http.StatusBadRequest)
	}
	setRule(t, app, "POST", "/rules", `{"users":["bob"],"action":"deny"}`, http.StatusOK)
}
