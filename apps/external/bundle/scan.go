package bundle

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	"ztm/apps/external/manifest"
	"ztm/apps/rooted"
)

// ManifestName is the file in the directory of an app that says what the app is. Who writes an app
// writes it; provider and sequence number are set when the app is published.
const ManifestName = "app.json"

// maxManifest is the largest such file, in bytes.
const maxManifest = 64 << 10

// Scan reads the directory of an app, as who writes it has it. The manifest is that of the file
// app.json, with the given provider and sequence number. Names that begin with a dot are left out;
// a link, a device or a file with another owner's rights (setuid) is an error that names it.
func Scan(dir, provider string, sequence uint64) (*Bundle, error) {
	d, err := rooted.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	b := &Bundle{}
	if b.Manifest, err = readManifest(d); err != nil {
		return nil, err
	}
	b.Manifest.Provider, b.Manifest.Sequence = provider, sequence
	err = d.Walk(func(in *rooted.Dir, n rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return b.scanned(in, n, p, info)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(b.Files, func(x, y File) int { return cmp.Compare(x.Path, y.Path) })
	return b, b.check()
}

// scanned adds what a walk has come to.
func (b *Bundle) scanned(in *rooted.Dir, n rooted.Name, p rooted.Path, info fs.FileInfo) error {
	switch {
	case strings.HasPrefix(string(n.Bytes()), "."):
		if info.IsDir() {
			return rooted.SkipDir
		}
		return nil
	case info.IsDir():
		return nil
	case !info.Mode().IsRegular() || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return failf("%v is no plain file (%v)", p, info.Mode())
	case len(b.Files) == MaxFiles:
		return failf("more than %d files", MaxFiles)
	}
	f, err := in.Open(n)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, io.LimitReader(f, MaxBytes+1))
	b.Files = append(b.Files, File{Path: string(p.Bytes()), Size: size, Exec: info.Mode()&0o111 != 0, Hash: h.Sum(nil)})
	return err
}

// readManifest reads the file app.json.
func readManifest(d *rooted.Dir) (m manifest.Manifest, err error) {
	name, err := rooted.LocalName(ManifestName)
	if err != nil {
		return m, err
	}
	f, err := d.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return m, failf("there is no file %s: it says what the app is", ManifestName)
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return m, err
	}
	if len(text) > maxManifest {
		return m, failf("%s is larger than %d bytes", ManifestName, maxManifest)
	}
	return ParseManifest(text)
}

// ParseManifest reads the text of a file app.json. A field that is not known is an error: it may be
// a slip of the pen in a right.
func ParseManifest(text []byte) (m manifest.Manifest, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, failf("%s: %v", ManifestName, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return m, failf("%s has something behind its end", ManifestName)
	}
	if m.Provider != "" || m.Sequence != 0 {
		return m, failf("%s has a provider or a sequence: they are set when the app is published", ManifestName)
	}
	return m, nil
}
