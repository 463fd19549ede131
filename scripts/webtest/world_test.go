// Package webtest drives the console of real agents by a real browser.
//
//	go run ./scripts/web && (cd scripts/webtest && go test .)
//
// It is a module of its own: what drives a browser is no part of the product. It needs Debian's
// chromium and fonts-wqy-microhei, or others; without a browser it is skipped.
package webtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const timeout = 90 * time.Second

// world is a hub and its agents, as processes, in one directory.
type world struct {
	t   testing.TB
	dir string
	bin string
	hub string
}

// build makes the program with a tag more, and with options of the linker.
func build(dir, tag, options string) (string, error) {
	bin := filepath.Join(dir, "ztm")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs,urfave_cli_no_suggest,"+tag, "-ldflags", options, "-o", bin, ".")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-gcflags=all=-dwarf=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v\n%s", err, out)
	}
	return bin, nil
}

// freeAddress is an address of this machine on which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// newWorld starts a hub.
func newWorld(t testing.TB, bin string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), bin: bin, hub: freeAddress(t)}
	w.start("hub", "run", "hub", "--data", "hub", "--listen", w.hub, "--names", w.hub, "--permit", "root.json")
	w.until("the hub has made its permit", func() bool { _, err := os.Stat(filepath.Join(w.dir, "root.json")); return err == nil })
	return w
}

// agent starts an agent.
func (w *world) agent(name string) *exec.Cmd {
	w.t.Helper()
	cmd := w.start(name, "run", "agent", "--data", name)
	w.until(name+" answers", func() bool { _, err := w.try(name, "get", "mesh"); return err == nil })
	return cmd
}

// start runs a command of the program until the test ends.
func (w *world) start(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	log, err := os.Create(filepath.Join(w.dir, name+".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(w.bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, log, log
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "ZTM_DATA=", "SHELL=/bin/sh")
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		log.Close()
	})
	return cmd
}

// ztm runs a command at an agent and returns what it prints.
func (w *world) ztm(agent string, args ...string) string {
	w.t.Helper()
	out, err := w.try(agent, args...)
	if err != nil {
		w.t.Fatalf("ztm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w *world) try(agent string, args ...string) (string, error) {
	cmd := exec.Command(w.bin, append([]string{"--data", agent}, args...)...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &errs
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "ZTM_DATA=")
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return out.String(), err
}

// write writes a file below the directory of the world.
func (w *world) write(name, content string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// until waits until something holds.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	waitFor(w.t, what, holds)
}

func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !within(holds) {
		t.Fatalf("not within %v: %s", timeout, what)
	}
}

// within waits until something holds, and reports whether it did in time. A page may be replaced by
// another meanwhile, so nothing waits in the page.
func within(holds func() bool) bool {
	late := time.After(timeout)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-late:
			return false
		case <-tick.C:
		}
	}
	return true
}

// website serves one sentence.
func (w *world) website(sentence string) (address string) {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, sentence) })}
	go srv.Serve(ln)
	w.t.Cleanup(func() { srv.Shutdown(context.Background()) })
	return ln.Addr().String()
}

// console opens the console of an agent and returns its address, with the code.
func (w *world) console(agent string, options ...string) string {
	w.t.Helper()
	_, port, _ := net.SplitHostPort(freeAddress(w.t))
	return strings.TrimSpace(w.ztm(agent, append([]string{"console", "--no-open", "--port", port}, options...)...))
}
