//go:build unix

package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	listenunix "ztm/apps/listen"
)

// maxSocketPath is what sun_path holds on every system, in bytes: 104 with the closing zero on the
// BSDs, less a reserve.
const maxSocketPath = 100

// socketPath is <dir>/agent.sock where the kernel accepts that and the file system can be written,
// or else a path that both sides can compute.
func socketPath(dir string) (path string, fallback bool, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", false, err
	}
	if path = filepath.Join(dir, "agent.sock"); len(path) <= maxSocketPath && !readOnly(dir) {
		return path, false, nil
	}
	sum := sha256.Sum256([]byte(dir))
	private := "ztm-" + strconv.Itoa(os.Getuid()) + "-" + hex.EncodeToString(sum[:8])
	return filepath.Join(os.TempDir(), private, "agent.sock"), true, nil
}

// readOnly reports whether dir lies, or would lie, on a file system that is mounted read-only.
func readOnly(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		err := unix.Access(dir, unix.W_OK)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return errors.Is(err, unix.EROFS)
		}
	}
}

func location(dir string) string {
	path, _, err := socketPath(dir)
	if err != nil {
		return filepath.Join(dir, "agent.sock")
	}
	return path
}

func dial(ctx context.Context, dir string) (net.Conn, string, error) {
	path, fallback, err := socketPath(dir)
	if err != nil {
		return nil, "", err
	}
	if fallback {
		if err := private(filepath.Dir(path)); err != nil {
			return nil, "", err
		}
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	return c, "", err
}

func listen(dir string) (net.Listener, string, error) {
	path, fallback, err := socketPath(dir)
	if err != nil {
		return nil, "", err
	}
	l, err := newLasting(func() (net.Listener, error) { return open(path, fallback) }, func() bool { return there(path) }, lookEvery)
	if err != nil {
		return nil, "", err
	}
	return l, "", nil
}

// there reports whether something is at a path, or that this cannot be told.
func there(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// open makes the socket, and the private directory around it where it is not in the data directory.
func open(path string, fallback bool) (net.Listener, error) {
	if fallback {
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := private(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	return listenunix.Unix(context.Background(), path)
}

// private checks a directory whose name anybody could have taken in the common temporary directory:
// another user who makes it first must not get to play the agent.
func private(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || fi.Mode().Perm() != 0o700 || !ok || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a private directory of this user", dir)
	}
	return nil
}
