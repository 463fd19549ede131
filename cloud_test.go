package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ztm/apps/appstest"
	"ztm/hub"
)

// cloudAt makes an endpoint with a local directory of its own.
func (w *world) cloudAt(name, user string) (stop func()) {
	w.t.Helper()
	stop = w.join(name, user)
	w.ztm(name, "cloud", "config", "--local-dir", w.path(name+"-files"))
	return stop
}

// cloudFile reads a file of the local directory of an endpoint.
func (w *world) cloudFile(name, path string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.path(name+"-files"), "users", filepath.FromSlash(path)))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func TestTwoCommandsShareAFileAndItOutlivesItsPublisher(t *testing.T) {
	w := newWorld(t)
	stop := w.cloudAt("root", "root")
	w.cloudAt("bob", "bob")
	w.cloudAt("carol", "carol")
	report := bytes.Repeat([]byte("a line of the report\n"), 30_000)
	w.write("report 1.pdf", string(report))

	_, said, status := w.try("root", "cloud", "upload", w.path("report 1.pdf"), "--share", "bob", "--share", "carol")
	if status != 0 {
		t.Fatal(said)
	}
	_, paste, found := strings.Cut(said, "  ztm ")
	if !found || !strings.Contains(paste, "'/users/root/report 1.pdf'") {
		t.Fatalf("the first command does not print the second:\n%s", said)
	}
	args := strings.Fields(strings.Split(strings.TrimSpace(paste), "'")[0])
	fetch := append(args, "/users/root/report 1.pdf")
	w.until("bob finds the file", func() error {
		if _, errs, status := w.try("bob", fetch...); status != 0 {
			return errors.New(errs)
		}
		return nil
	})
	if !bytes.Equal(w.cloudFile("bob", "root/report 1.pdf"), report) {
		t.Fatal("bob has another file")
	}
	w.until("carol sees two sources", func() error {
		var list []struct {
			Path    string
			Sources int
		}
		if err := json.Unmarshal([]byte(w.ztm("carol", "cloud", "ls", "-o", "json")), &list); err != nil {
			return err
		}
		if len(list) != 1 || list[0].Sources != 2 {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	stop()
	w.until("carol has it from bob", func() error {
		if out, errs, status := w.try("carol", append(args, "/users/root/report 1.pdf", "-o", w.path("copy"))...); status != 0 {
			return errors.New(out + errs)
		}
		return nil
	})
	if b, err := os.ReadFile(w.path("copy")); err != nil || !bytes.Equal(b, report) {
		t.Errorf("the copy has %d bytes, %v", len(b), err)
	}
}

// tapped forwards connections from one address to another until the test ends, and keeps all that
// passes.
func tapped(t *testing.T, from, to string) *appstest.Buffer {
	r := &appstest.Buffer{}
	ln, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	t.Cleanup(func() { ln.Close(); passing.Wait() })
	passing.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			pass := func(a, b net.Conn) {
				io.Copy(io.MultiWriter(a, r), b)
				a.Close()
				b.Close()
			}
			passing.Go(func() { pass(c, d) })
			passing.Go(func() { pass(d, c) })
		}
	})
	return r
}

func TestTheHubLearnsNoNameSizeOrHashOfAFile(t *testing.T) {
	w := emptyWorld(t)
	behind := appstest.FreeAddress(t)
	seen := tapped(t, w.address, behind)
	w.startHub(hub.Config{Listen: behind})
	w.cloudAt("root", "root")
	w.cloudAt("bob", "bob")
	secret := bytes.Repeat([]byte("the text that nobody else may read. "), 4321)
	w.write("zq-secret-name", string(secret))
	w.ztm("root", "cloud", "upload", w.path("zq-secret-name"), "zq-dir/zq-secret-name", "--share", "bob")
	w.until("bob has the file", func() error {
		if _, errs, status := w.try("bob", "cloud", "download", "/users/root/zq-dir"); status != 0 {
			return errors.New(errs)
		}
		return nil
	})
	sum := sha256.Sum256(secret)
	recorded := []byte(seen.String())
	known := [][]byte{recorded, []byte(w.hubLog.String()), []byte(w.ztm("root", "get", "ep", "-o", "json"))}
	filepath.WalkDir(w.path("hub"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, err := os.ReadFile(path)
			known = append(known, b)
			return err
		}
		return err
	})
	if len(recorded) < len(secret) {
		t.Fatalf("the recorder saw %d bytes: the file went another way", len(recorded))
	}
	for _, word := range []string{"zq-", "nobody else", fmt.Sprint(len(secret)), string(sum[:]), hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:])} {
		for i, b := range known {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%q is in what the hub has (%d)", word, i)
			}
		}
	}
}

func TestNamesOfOthersFilesCannotMoveTheCursor(t *testing.T) {
	w := newWorld(t)
	stop := w.cloudAt("root", "root")
	w.cloudAt("bob", "bob")
	name := "a\u202egpj.exe" // shown backwards it would be another one
	w.write(name, "x")
	w.ztm("root", "cloud", "upload", w.path(name), "--share", "bob")
	w.until("bob sees the file", func() error {
		if out := w.ztm("bob", "cloud", "ls"); !strings.Contains(out, "a?gpj.exe") || strings.Contains(out, "\u202e") {
			return errors.New(out)
		}
		return nil
	})
	stop()
	out, errs, status := w.try("bob", "cloud", "download", "/users/root/"+name)
	if status == 0 || !strings.Contains(errs, "a?gpj.exe") || strings.Contains(out+errs, "\u202e") {
		t.Errorf("status %d: %q", status, errs)
	}
	if out := w.ztm("bob", "cloud", "status"); !strings.Contains(out, "a?gpj.exe") || strings.Contains(out, "\u202e") {
		t.Errorf("status prints %q", out)
	}
	// What no peer can publish stands in the local directory, by whatever way.
	dir := filepath.Join(w.path("bob-files"), "users", "bob")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "b\x1b[2J\nc"), nil, 0o600)); err != nil {
		t.Skip("the file system does not have the name:", err)
	}
	if out := w.ztm("bob", "cloud", "ls"); !strings.Contains(out, "b?[2J?c") || strings.Contains(out, "\x1b") {
		t.Errorf("ls prints %q", out)
	}
}
