package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"ztm/apps/rooted"
)

// Source opens a file of a bundle where it is now. What it reads is not trusted.
type Source func(File) (io.ReadCloser, error)

// signedName is the file beside those of the app that holds the signed bundle. No bundle can have a
// file of that name.
var signedName = rooted.Own("manifest")

// Unpack writes a bundle into the directory of its app, under the name of its sequence number, and
// returns when the disk has all of it. Until then that name does not exist. Where it exists, with the
// same content, nothing is done; with another one it is an error that matches [ErrInvalid].
func Unpack(app *rooted.Dir, s Signed, from Source) error {
	b, err := Read(s)
	if err != nil {
		return err
	}
	name, err := nameOf(b.Manifest.Sequence)
	if err != nil {
		return err
	}
	if _, err := app.Stat(name); err == nil {
		return same(app, b)
	}
	temp := rooted.Own("new-" + string(name.Bytes()))
	if err := app.RemoveAll(temp); err != nil { // of an attempt that did not end
		return err
	}
	if err := app.Mkdir(temp, 0o755); err != nil {
		return err
	}
	if err := fill(app, temp, b, s, from); err != nil {
		return errors.Join(err, app.RemoveAll(temp))
	}
	if err := app.Rename(temp, name); err != nil {
		return err
	}
	return app.Sync()
}

// nameOf returns the name of the directory of a version.
func nameOf(sequence uint64) (rooted.Name, error) {
	return rooted.LocalName(strconv.FormatUint(sequence, 10))
}

// same checks that the version that is there is the one that is wanted.
func same(app *rooted.Dir, b *Bundle) error {
	_, old, err := Load(app, b.Manifest.Sequence)
	if err != nil {
		return err
	}
	have, err := old.Digest()
	if err != nil {
		return err
	}
	want, err := b.Digest()
	if err == nil && !bytes.Equal(have, want) {
		err = failf("sequence %d was published with other content before", b.Manifest.Sequence)
	}
	return err
}

// fill writes all files of a bundle into a directory of the app, and waits for the disk.
func fill(app *rooted.Dir, temp rooted.Name, b *Bundle, s Signed, from Source) error {
	d, err := app.Sub(temp)
	if err != nil {
		return err
	}
	defer d.Close()
	if free, known := d.Free(); known && uint64(b.Bytes()) > free {
		return fmt.Errorf("the app has %d kB, and the disk has room for %d kB beside what is kept free", (b.Bytes()+999)/1000, free/1000)
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := write(d, signedName, File{Size: int64(len(body))}, bytes.NewReader(body)); err != nil {
		return err
	}
	for _, f := range b.Files {
		if err := unpack(d, f, from); err != nil {
			return err
		}
	}
	return settle(d)
}

// unpack fetches one file.
func unpack(d *rooted.Dir, f File, from Source) error {
	p, err := rooted.ParsePath(f.Path)
	if err != nil {
		return err
	}
	dir, name := p.Split()
	in, err := d.MkdirAt(dir, 0o755)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := from(f)
	if err != nil {
		return err
	}
	defer r.Close()
	return write(in, name, f, r)
}

// write writes a file and checks what it writes. A file without a hash is ours.
func write(in *rooted.Dir, name rooted.Name, f File, r io.Reader) error {
	p, err := in.Create(name, "", false)
	if err != nil {
		return err
	}
	defer p.Discard()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(p, h), io.LimitReader(r, f.Size+1))
	switch {
	case err != nil:
		return err
	case n != f.Size || f.Hash != nil && !bytes.Equal(h.Sum(nil), f.Hash):
		return failf("the file %v is not the one that was signed", name)
	}
	perm := fs.FileMode(0o644)
	if f.Exec {
		perm = 0o755
	}
	return p.Commit(perm, time.Time{}, true)
}

// settle waits until the disk has all directories below d.
func settle(d *rooted.Dir) error {
	err := d.Walk(func(in *rooted.Dir, n rooted.Name, _ rooted.Path, info fs.FileInfo, err error) error {
		if err != nil || !info.IsDir() {
			return err
		}
		return in.Sync()
	})
	return errors.Join(err, d.Sync())
}

// Load reads the signed bundle of a version that was unpacked. It does not look at the other files.
func Load(app *rooted.Dir, sequence uint64) (Signed, *Bundle, error) {
	name, err := nameOf(sequence)
	if err != nil {
		return Signed{}, nil, err
	}
	d, err := app.Sub(name)
	if err != nil {
		return Signed{}, nil, err
	}
	defer d.Close()
	f, err := d.Open(signedName)
	if err != nil {
		return Signed{}, nil, err
	}
	defer f.Close()
	s, err := Decode(f)
	if err != nil {
		return Signed{}, nil, err
	}
	b, err := Read(s)
	return s, b, err
}

// Decode reads the JSON of a signed bundle.
func Decode(r io.Reader) (s Signed, err error) {
	body, err := io.ReadAll(io.LimitReader(r, MaxSigned+1))
	if err != nil {
		return s, err
	}
	if len(body) > MaxSigned {
		return s, failf("a manifest of more than %d bytes", MaxSigned)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, failf("the signed manifest: %v", err)
	}
	return s, nil
}

// Verify reads all files of a version that was unpacked, and checks that they are those that were
// signed, and that there is no other.
func Verify(app *rooted.Dir, sequence uint64) (*Bundle, error) {
	_, b, err := Load(app, sequence)
	if err != nil {
		return nil, err
	}
	name, err := nameOf(sequence)
	if err != nil {
		return nil, err
	}
	d, err := app.Sub(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	want := map[string]File{}
	for _, f := range b.Files {
		want[f.Path] = f
	}
	err = d.Walk(func(in *rooted.Dir, n rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		f, ok := want[string(p.Bytes())]
		delete(want, f.Path)
		if !ok {
			return failf("the file %v does not belong there", p)
		}
		return verify(in, n, f)
	})
	if err == nil && len(want) > 0 {
		err = failf("%d files are missing", len(want))
	}
	return b, err
}

// verify checks one file.
func verify(in *rooted.Dir, n rooted.Name, f File) error {
	r, err := in.Open(n)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(r, f.Size+1)); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), f.Hash) {
		return failf("the file %v was changed", n)
	}
	return nil
}

// Tidy removes what attempts left that did not end, and all versions but those of keep.
func Tidy(app *rooted.Dir, keep ...uint64) error {
	stays := map[string]bool{}
	for _, sequence := range keep {
		stays[strconv.FormatUint(sequence, 10)] = true
	}
	h, err := app.Handle()
	if err != nil {
		return err
	}
	names, err := h.Readdirnames(-1) // ours among them, which Names leaves out
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	for _, s := range names {
		n, parsed := rooted.LocalName(s)
		if left, ours := strings.CutPrefix(s, string(rooted.Own("new-").Bytes())); ours {
			n, parsed = rooted.Own("new-"+left), nil
		}
		if stays[s] || parsed != nil {
			continue
		}
		if err := app.RemoveAll(n); err != nil {
			return err
		}
	}
	return nil
}

// Drop removes a version.
func Drop(app *rooted.Dir, sequence uint64) error {
	name, err := nameOf(sequence)
	if err != nil {
		return err
	}
	return app.RemoveAll(name)
}
