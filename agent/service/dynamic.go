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

// dynamicData is the directory in which systemd keeps the state of a hub with a dynamic account.
const dynamicData = "/var/lib/ztm-hub"

// shutIn gives a hub without --data and --run-as a dynamic account. Such a hub cannot write into
// the user's working directory: it writes the root permit into its data directory. shutIn returns
// the path of --permit, for [fetchPermit].
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

// The permit is moved in three steps. At every moment at least one file holds the whole CA key, and
// the same command completes a move that was interrupted.
//
//  1. checkPermit: the destination can be written, before anything is made
//  2. the hub writes the permit into its data directory, in one step, and logs it
//  3. movePermit: the copy and its name are on disk; only then is the hub's file removed

// permitTimeout is how long a hub may take to make a mesh.
const permitTimeout = 30 * time.Second

// checkPermit checks that the permit can be written to its destination. moved reports that the
// destination exists and the hub has a mesh: an earlier start has moved the permit, or was
// interrupted while it did.
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

// fetchPermit waits for the permit of a new hub and moves it to the path that the user has chosen,
// readable for that user alone.
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

// movePermit moves a permit, also to another file system. Its error is fs.ErrNotExist if there is
// none.
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

// readPermit reads a permit. It does not follow a link out of the directory: the hub's own account
// could have made one to a file that only root may read.
func readPermit(path string) ([]byte, error) {
	f, err := os.OpenInRoot(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPermit))
}

// syncDir writes the names in a directory to disk, on file systems that support it.
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
