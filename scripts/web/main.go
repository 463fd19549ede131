// Command web fetches the terminal that the console shows in a browser: xterm.js, which others wrote
// and which is not in this repository. A build with the tag ztm_xterm has it in:
//
//	go run ./scripts/web && go build -tags ztm_xterm -o ztm .
//
// It takes named files out of npm packages of exact versions, each checked by its SHA-256, and puts
// them compressed into agent/web/fetched, which git ignores. npm downloads the packages; nothing of
// theirs is run.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// source is a package of npm, and what is taken of it.
type source struct {
	name, version string
	sum           string            // SHA-256 of the package, as npm serves it
	files         map[string]string // a path in the package to the name here
}

// sources are the same for everybody until somebody has read what is new in a later version.
var sources = []source{
	{"@xterm/xterm", "6.0.0", "908e66e04af6c8dc6b00dd3b54de088e2e81e5ed866284fd6c2fb3c2d1c7a3f6",
		map[string]string{"package/lib/xterm.mjs": "xterm.js", "package/css/xterm.css": "xterm.css", "package/LICENSE": "xterm-licence.txt"}},
	{"@xterm/addon-fit", "0.11.0", "26003b4517a132b64e4ff228fd88a5fda3fff5e606c76093f6dcff772e9ecec0",
		map[string]string{"package/lib/addon-fit.mjs": "addon-fit.js"}},
	{"@xterm/addon-unicode11", "0.9.0", "b665667792f916873fe946ba98cc98a1a742af08e163fb66e1c0809c120ca42e",
		map[string]string{"package/lib/addon-unicode11.mjs": "addon-unicode11.js"}},
}

// testSources are for the tests in scripts/webtest, and in no binary.
var testSources = []source{
	{"axe-core", "4.11.0", "39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107", map[string]string{"package/axe.min.js": "axe.min.js"}},
}

const maxFile = 4 << 20 // bytes of one file

func main() {
	tests := flag.Bool("tests", false, "fetch what the tests of the console need, too")
	flag.Parse()
	err := run(context.Background(), sources, "agent/web/fetched")
	if err == nil && *tests {
		err = run(context.Background(), testSources, "scripts/webtest/fetched")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

// run puts the files of packages into a directory.
func run(ctx context.Context, from []source, to string) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return errors.New("run it in the root of a clone")
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, s := range from {
		packed, err := s.fetch(ctx)
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.name, s.version, err)
		}
		if err := s.unpack(packed, to); err != nil {
			return fmt.Errorf("%s %s: %w", s.name, s.version, err)
		}
	}
	return nil
}

// fetch has npm download the package, and checks it.
func (s source) fetch(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "ztm-web-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", dir, s.name+"@"+s.version)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("npm: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("npm made %d files", len(found))
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	return b, s.check(b)
}

func (s source) check(packed []byte) error {
	sum := sha256.Sum256(packed)
	if got := hex.EncodeToString(sum[:]); got != s.sum {
		return fmt.Errorf("its SHA-256 is %s, and not %s: it is not what was read", got, s.sum)
	}
	return nil
}

// unpack puts the named files into a directory, compressed. Each must be there.
func (s source) unpack(packed []byte, to string) error {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	left := len(s.files)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, wanted := s.files[h.Name]
		if !wanted {
			continue
		}
		left--
		if err := compress(io.LimitReader(r, maxFile), filepath.Join(to, name+".gz")); err != nil {
			return err
		}
	}
	if left != 0 {
		return fmt.Errorf("%d files are missing in it", left)
	}
	return nil
}

// compress writes a file that is the same wherever it is made.
func compress(r io.Reader, path string) error {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, r); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
