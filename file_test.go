package main

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesTravelThroughTheMesh copies as a person does.
func TestFilesTravelThroughTheMesh(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("office", "bob")
	big := make([]byte, 5<<20)
	rand.Read(big)
	const secret = "a-name-that-only-two-know.txt"
	for name, text := range map[string][]byte{secret: []byte("hello"), "deep/er/big": big, "deep/empty": nil} {
		path := filepath.Join(w.path("tree"), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs, status := w.try("root", "file", "ls", "ep-office:"+w.path("tree")); status != 1 || !strings.Contains(errs, "ask the owner of ep-office") {
		t.Errorf("before it is allowed: status %d, %s", status, errs)
	}
	w.ztm("office", "file", "allow", w.path("tree"), "--users", "root")
	for _, args := range [][]string{{"file", "ls", "ep-office:" + w.path("tree")}, {"ep", "ep-office", "file", "ls", w.path("tree")}} {
		if out := w.ztm("root", args...); !strings.Contains(out, secret) || !strings.Contains(out, "deep/") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if _, errs, status := w.try("root", "file", "cp", w.path("tree/"+secret), "ep-office:"+w.path("tree/new")); status != 1 || !strings.Contains(errs, "ask the owner of ep-office") {
		t.Errorf("without the right to write: status %d, %s", status, errs)
	}
	w.ztm("root", "file", "cp", "-r", "ep-office:"+w.path("tree"), w.path("copy"))
	for _, name := range []string{secret, "deep/er/big", "deep/empty"} {
		want, err := os.ReadFile(w.path("tree/" + name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(w.path("copy/" + name)); !bytes.Equal(got, want) || err != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
