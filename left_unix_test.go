//go:build unix

package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"ztm/agent/api"
	"ztm/agent/kube/access"
	"ztm/apps/appstest"
)

// What each app does for a user of another endpoint, beyond the moment: it begins it, for eve at
// bob's, and returns whether it runs. An app that is not here does not come into the binary without
// saying what it is that must end with the user.
var begun = map[string]func(w *world) (runs func() bool){
	"tunnel": func(w *world) func() bool {
		target, open := holdingServer(w.t)
		w.ztm("bob", "tunnel", "allow", "--target", target, "--users", "eve")
		w.runs("eve", "nc", "ep-bob", target)
		return func() bool { return open() > 0 }
	},
	"proxy": func(w *world) func() bool {
		target, open := holdingServer(w.t)
		host, _, _ := net.SplitHostPort(target)
		w.ztm("bob", "proxy", "config", "--add-target", host)
		w.ztm("bob", "proxy", "rules", "--users", "eve", "--targets", host, "--action", "allow")
		listen := appstest.FreeAddress(w.t)
		w.ztm("eve", "proxy", "config", "--set-listen", listen, "--add-trust", "bob")
		w.until("the proxy connects", func() error {
			c, err := net.Dial("tcp", listen)
			if err != nil {
				return err
			}
			if _, err = io.WriteString(c, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n"); err == nil {
				_, err = io.ReadFull(c, make([]byte, len("HTTP/1.1 200")))
			}
			if err == nil && open() == 0 {
				err = errors.New("the target has not taken the connection yet")
			}
			if err != nil {
				c.Close()
				return err
			}
			w.t.Cleanup(func() { c.Close() })
			return nil
		})
		return func() bool { return open() > 0 }
	},
	"terminal": func(w *world) func() bool {
		w.ztm("bob", "terminal", "config", "--add-user", "eve")
		w.runs("eve", "terminal", "open", "-t", "--keep", "--", "ep-bob", "sh", "-c", "echo $$ > "+w.path("terminal.pid")+"; exec sleep 1000")
		return w.process("terminal.pid")
	},
	"kube": func(w *world) func() bool {
		target, open := holdingServer(w.t)
		w.write("token", "secret")
		w.call("bob", http.MethodPut, api.AppPath("demo", w.membership("bob").Agent.ID, "kube/server"), access.Server{URL: "http://" + target, TokenFile: w.path("token")})
		w.until("the cluster is there", func() error {
			if out := w.ztm("eve", "kube", "ls"); !strings.Contains(out, "ep-bob") {
				return errors.New(out)
			}
			return nil
		})
		w.ztm("eve", "kube", "login", "ep-bob", "--kubeconfig", w.path("kubeconfig"))
		w.kubectl("eve", "ep-bob", w.path("kubeconfig"), "/watch")
		return func() bool { return open() > 0 }
	},
	"app": func(w *world) func() bool {
		needsApps(w.t, "python3")
		w.ztm("bob", "cloud", "config", "--local-dir", w.path("bob-files"))
		w.ztm("bob", "app", "init", w.path("hello"))
		w.ztm("bob", "app", "publish", w.path("hello"))
		w.until("the app is installed", func() error {
			if _, errs, status := w.try("bob", "app", "install", "--yes", "bob/hello"); status != 0 {
				return errors.New(errs)
			}
			return nil
		})
		w.ztm("bob", "app", "grant", "hello", "eve")
		return func() bool {
			_, _, status := w.try("eve", "ep", "ep-bob", "app", "call", "bob/hello")
			return status == 0
		}
	},
	"file": func(w *world) func() bool {
		w.ztm("bob", "file", "inbox", "--add-user", "eve")
		w.write("gift", "x")
		w.runs("eve", "file", "send", w.path("gift"), "ep-bob")
		return func() bool { return strings.Contains(w.ztm("bob", "file", "inbox"), "gift") }
	},
	"cloud": func(w *world) func() bool {
		for _, name := range []string{"bob", "eve"} {
			w.ztm(name, "cloud", "config", "--local-dir", w.path(name+"-files"))
		}
		w.write("plan", "x")
		w.ztm("bob", "cloud", "upload", w.path("plan"), "--share", "eve")
		return func() bool { // each copy comes from bob: the one before is gone
			_, _, status := w.try("eve", "cloud", "download", "/users/bob/plan")
			w.try("eve", "cloud", "erase", "/users/bob/plan")
			return status == 0
		}
	},
	"script": func(w *world) func() bool {
		w.ztm("bob", "script", "config", "--add-user", "eve")
		w.write("script.sh", "echo $$ > "+w.path("script.pid")+"; exec sleep 1000\n")
		w.runs("eve", "script", w.path("script.sh"), "--ep", "ep-bob")
		return w.process("script.pid")
	},
}

func TestNothingThatAnEvictedUserBeganGoesOn(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			begin := begun[kind.Name]
			if begin == nil {
				t.Fatalf("app %s does not say what it does for a peer that must end when the peer is evicted", kind.Name)
			}
			w := newWorld(t)
			w.join("root", "root")
			w.join("bob", "bob")
			w.join("eve", "eve")
			runs := begin(w)
			appstest.Eventually(t, "it runs", runs)
			w.ztm("root", "evict", "eve")
			appstest.Eventually(t, "it has ended", func() bool { return !runs() })
		})
	}
}

// runs runs a command line in the background; the end of the test waits for it.
func (w *world) runs(agent string, args ...string) {
	in, keyboard := io.Pipe() // at which nobody types
	var out appstest.Buffer
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		run(append([]string{"ztm", "--data", w.path(agent)}, args...), in, &out, &out)
	}()
	w.t.Cleanup(func() {
		keyboard.Close()
		<-done
		if w.t.Failed() {
			w.t.Logf("ztm %s: %s", strings.Join(args, " "), out.String())
		}
	})
}

// process waits until a process has written its ID to a file, and returns whether it is alive.
func (w *world) process(file string) (alive func() bool) {
	w.t.Helper()
	var pid int
	w.until("the process has begun", func() error {
		b, err := os.ReadFile(w.path(file))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err
	})
	return func() bool { return syscall.Kill(pid, 0) == nil }
}

// holdingServer keeps connections until the other side ends them, and counts them.
func holdingServer(t testing.TB) (address string, open func() int) {
	var mu sync.Mutex
	n := 0
	count := func(change int) int {
		mu.Lock()
		defer mu.Unlock()
		n += change
		return n
	}
	address = serveEach(t, func(c *net.TCPConn) {
		count(1)
		defer count(-1)
		io.Copy(io.Discard, c)
	})
	return address, func() int { return count(0) }
}
