package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// dynamicData is where systemd keeps the state of a hub whose account it invents.
const dynamicData = "/var/lib/ztm-hub"

// shutIn makes a hub that is not told where to keep its data, nor who to be, a service with an account of its own. Such a
// hub cannot write where the user stands: the root permit goes into its data directory, and the path that --permit gave is returned, for
// [fetchPermit].
func (s *Spec) shutIn(sys System, placed bool) (permit string) {
	if sys.Name != "systemd" || s.Role != "hub" || placed || s.Own || s.Account != "" {
		return ""
	}
	s.Dynamic, s.Data, s.Writes = true, dynamicData, nil
	var rest []string
	for _, o := range s.Options {
		switch name, value, _ := strings.Cut(o, "="); name {
		case "--data":
			rest = append(rest, "--data="+s.Data)
		case "--permit":
			permit = value
		default:
			rest = append(rest, o)
		}
	}
	s.Options = rest
	return permit
}

// How the permit comes to its place. Whoever is killed, and whenever: the CA key is in one file at least, whole, and the same command
// again goes on from there.
//
//  1. checkPermit: there is room for it, before anything is made
//  2. the hub writes it into its data directory, in one step, and says so in its log
//  3. movePermit: a copy is on disk, its name too; only then the hub's file is removed

// permitTimeout is how long a hub may take to make a mesh.
const permitTimeout = 30 * time.Second

// checkPermit finds what would keep the permit from its place. moved says that there is a permit already of a hub that has a mesh: an
// earlier start has moved it, or was about to.
func checkPermit(data, to string) (moved bool, err error) {
	if _, err := os.Lstat(to); err == nil {
		if _, err := os.Stat(filepath.Join(data, "hub.db")); err != nil {
			return false, fmt.Errorf("%s is there already: name another file for the permit of the new mesh", to)
		}
		return true, nil
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".permit-*")
	if err != nil {
		return false, fmt.Errorf("the root permit cannot be written: %w", err)
	}
	return false, errors.Join(f.Close(), os.Remove(f.Name()))
}

// fetchPermit moves the permit that a new hub writes to where the user wants it, readable for him alone.
func fetchPermit(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, permitTimeout, fmt.Errorf("the hub has not written %s: its mesh is not a new one, or its log says why", from))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := movePermit(from, to)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// maxPermit bounds what is read of a permit, in bytes.
const maxPermit = 1 << 20

// movePermit moves a permit, also to another file system. Its error is fs.ErrNotExist if there is none.
func movePermit(from, to string) error {
	content, err := readPermit(from)
	if err != nil {
		return err
	}
	old, err := readPermit(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = File{Path: to, Mode: 0o600, Text: string(content)}.write()
	case err == nil && !bytes.Equal(old, content):
		err = errors.New("another file is there")
	}
	if err == nil {
		err = syncDir(filepath.Dir(to))
	}
	if err != nil {
		return fmt.Errorf("permit %s: %v; the hub has written it to %s", to, err, from)
	}
	return os.Remove(from)
}

// readPermit reads a permit. The hub's own account may have put a link in its place, to a file that root alone may read: one that leads
// out of the directory is not followed.
func readPermit(path string) ([]byte, error) {
	f, err := os.OpenInRoot(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPermit))
}

// syncDir brings the names in a directory to disk, on file systems that do so when they are told.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
