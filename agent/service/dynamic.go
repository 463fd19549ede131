package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
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

// permitTimeout is how long a hub may take to make a mesh.
const permitTimeout = 30 * time.Second

// fetchPermit moves the permit that a new hub writes to where the user wants it, readable for him alone.
func fetchPermit(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, permitTimeout, fmt.Errorf("the hub has not written %s: its mesh is not a new one, or its log says why", from))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := moveFile(from, to)
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

// moveFile moves a small private file, also to another file system. The hub puts it in its place in one step: it is never seen half.
func moveFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return fmt.Errorf("permit: %w", err)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("permit: the hub has written it to %s: %v", from, err)
	}
	_, err = out.Write(content)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("permit: %w", err), os.Remove(to))
	}
	return os.Remove(from)
}
