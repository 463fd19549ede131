package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// pack makes a package with files.
func pack(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	w.Close()
	z.Close()
	return out.Bytes()
}

func TestOnlyWhatWasReadIsTaken(t *testing.T) {
	packed := pack(t, map[string]string{"package/lib/a.mjs": "a", "package/install.js": "evil", "../../b": "evil"})
	sum := sha256.Sum256(packed)
	s := source{sum: hex.EncodeToString(sum[:]), files: map[string]string{"package/lib/a.mjs": "a.js"}}
	if err := s.check(packed); err != nil {
		t.Error(err)
	}
	if err := s.check(append(packed, 0)); err == nil {
		t.Error("another package is taken for it")
	}
	to := t.TempDir()
	if err := s.unpack(packed, to); err != nil {
		t.Fatal(err)
	}
	if all, _ := filepath.Glob(filepath.Join(to, "*")); len(all) != 1 || filepath.Base(all[0]) != "a.js.gz" {
		t.Errorf("files %v", all)
	}
	b, err := os.ReadFile(filepath.Join(to, "a.js.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(z); string(text) != "a" {
		t.Errorf("content %q", text)
	}
	s.files["package/lib/missing.mjs"] = "b.js"
	if err := s.unpack(packed, to); err == nil {
		t.Error("a file that is missing is not missed")
	}
}
