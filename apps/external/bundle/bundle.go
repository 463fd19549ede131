// Package bundle is one version of an app as its provider signs it, and as it lies on a disk.
//
//	provider:  directory -> Scan -> Bundle -> Sign -> Signed, and the files beside it
//	installer: Signed -> Open -> Bundle -> Unpack: each file is fetched, checked and on disk -> the
//	           directory of the version takes its name
//
// There is no archive format: a bundle is a signed list of files, and the files. So who delivers them
// needs no trust, and nothing is written before its name, size and hash are known.
package bundle

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/external/manifest"
	"ztm/apps/rooted"
	"ztm/tunnel/unixtime"
)

// Limits of a bundle. That of a signed statement, 64 KB, allows fewer files where
// their names are long.
const (
	MaxFiles = 400
	MaxBytes = 512_000_000 // of all files together

	// MaxSigned is the largest JSON of a [Signed], in bytes.
	MaxSigned = 128 << 10
)

// Bundle is what the provider of an app signs: what the app is, and each file of it. The zero value
// is not valid.
type Bundle struct {
	Manifest manifest.Manifest `json:"manifest"`
	Time     unixtime.Millis   `json:"time"`  // of the signature, by the clock there
	Files    []File            `json:"files"` // sorted by path
}

// File is one file of a bundle. There is no mode beside "may be executed", so none can be setuid.
type File struct {
	Path string `json:"path"` // below the directory of the version, with "/"
	Size int64  `json:"size"` // in bytes
	Exec bool   `json:"exec,omitempty"`
	Hash []byte `json:"hash"` // SHA-256
}

// Signed is a bundle as it is passed on and kept.
type Signed struct {
	Doc         []byte `json:"doc"`
	Certificate []byte `json:"certificate"` // of the endpoint that signed
}

// reserved are names that an app cannot have: those of the apps that ztm brings, and the words that
// stand before a name.
var reserved = []string{"app", "cloud", "ep", "file", "hub", "mesh", "proxy", "script", "terminal", "tunnel", "ztm"}

// kind is the kind of statement that a bundle is. The app that signs is called "app", so its context
// is "ztm app manifest v1".
const kind = "manifest"

// ErrInvalid is matched by what is wrong with a bundle, whoever delivered it.
var ErrInvalid = errors.New("bundle: not valid")

func failf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Sign signs a bundle at an endpoint of its provider.
func Sign(n apps.Notary, b *Bundle) (Signed, error) {
	if err := b.check(); err != nil {
		return Signed{}, err
	}
	doc, certificate, err := n.Sign(kind, b)
	return Signed{doc, certificate}, err
}

// Open reads a bundle and verifies that an endpoint of its provider signed it. Documents of evicted
// users are refused.
func Open(n apps.Notary, s Signed) (*Bundle, error) {
	b, _, err := OpenBy(n, s)
	return b, err
}

// OpenBy is Open, and returns the endpoint that signed.
func OpenBy(n apps.Notary, s Signed) (*Bundle, apps.Peer, error) {
	var b Bundle
	by, err := n.Verify(kind, s.Doc, s.Certificate, &b)
	if err != nil {
		return nil, by, err
	}
	if err := b.check(); err != nil {
		return nil, by, err
	}
	if by.User != b.Manifest.Provider {
		return nil, by, failf("the app is of %s, and signed by %s", b.Manifest.Provider, by.User)
	}
	return &b, by, nil
}

// Read reads a bundle that was verified when it was taken.
func Read(s Signed) (*Bundle, error) {
	var d struct{ Payload Bundle }
	if err := json.Unmarshal(s.Doc, &d); err != nil {
		return nil, failf("%v", err)
	}
	return &d.Payload, d.Payload.check()
}

// Digest returns the SHA-256 of all that is signed. Two bundles of one sequence number are the same
// if their digests are.
func (b *Bundle) Digest() ([]byte, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return sum[:], nil
}

// Bytes returns the size of all files together.
func (b *Bundle) Bytes() (n int64) {
	for _, f := range b.Files {
		n += f.Size
	}
	return n
}

// check checks all that can be said of a bundle by itself.
func (b *Bundle) check() error {
	if err := b.Manifest.Check(); err != nil {
		return err
	}
	if slices.Contains(reserved, b.Manifest.Name) {
		return failf("the name %s means something else on the command line", b.Manifest.Name)
	}
	if len(b.Files) == 0 || len(b.Files) > MaxFiles {
		return failf("%d files, not 1 to %d", len(b.Files), MaxFiles)
	}
	left := int64(MaxBytes)
	for i, f := range b.Files {
		if err := f.check(); err != nil {
			return err
		}
		if i > 0 && b.Files[i-1].Path >= f.Path {
			return failf("the files are not in order, or one is there twice: %.200q", f.Path)
		}
		if f.Size > left {
			return failf("the files are larger than %d MB together", MaxBytes/1_000_000)
		}
		left -= f.Size
	}
	if err := b.checkNames(); err != nil {
		return err
	}
	return b.checkPrograms()
}

// check checks a file by itself.
func (f *File) check() error {
	p, err := rooted.ParsePath(f.Path)
	if err != nil {
		return failf("%v", err)
	}
	if p.IsRoot() || f.Size < 0 || len(f.Hash) != sha256.Size {
		return failf("the file %v has no name, no size or no hash", p)
	}
	return nil
}

// checkNames refuses files that are one and the same on a file system that folds case, and files
// that are a directory of others.
func (b *Bundle) checkNames() error {
	is := make(map[string]bool, len(b.Files)) // whether a folded name is a file, or a directory
	for _, f := range b.Files {
		name := strings.ToLower(f.Path)
		if _, taken := is[name]; taken {
			return failf("the name %.200q is taken by another file or directory", f.Path)
		}
		is[name] = true
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if is[name[:i]] {
				return failf("the name %.200q is below that of a file", f.Path)
			}
			is[name[:i]] = false
		}
	}
	return nil
}

// checkPrograms checks that what is run on each system is there and may be executed.
func (b *Bundle) checkPrograms() error {
	executable := map[string]bool{}
	for _, f := range b.Files {
		executable[f.Path] = f.Exec
	}
	for system, words := range b.Manifest.Exec {
		switch exec, there := executable[words[0]]; {
		case !there:
			return failf("the program %.200q of %s is no file of the app", words[0], system)
		case !exec:
			return failf("the program %.200q of %s is not executable: chmod +x makes it so", words[0], system)
		}
	}
	return nil
}
