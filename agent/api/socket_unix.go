//go:build unix

package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	listenunix "ztm/apps/listen"
)

// maxTokenFile is the longest agent.token that makes sense, in bytes.
const maxTokenFile = 1024

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
	if err != nil {
		return nil, "", err
	}
	// Only now: an agent that starts writes the token before it listens.
	token, err := readToken(tokenPath(path))
	if err != nil {
		c.Close()
		return nil, "", err
	}
	return c, token, nil
}

// tokenPath is the file beside a socket that holds the token, for this user alone. Who can connect
// and cannot read, an app of this user that is confined, is not the user.
func tokenPath(socket string) string { return filepath.Join(filepath.Dir(socket), "agent.token") }

// readToken reads a token. Where there is no file the agent asks for none: it is of an older
// version.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	return strings.TrimSpace(string(b)), err
}

// writeToken puts a token where the user alone can read it. The file is whole as soon as it is
// there.
func writeToken(path, token string) error {
	temporary := path + ".new"
	os.Remove(temporary) // a leftover
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

func listen(dir string) (net.Listener, string, error) {
	path, fallback, err := socketPath(dir)
	if err != nil {
		return nil, "", err
	}
	token := rand.Text()
	l, err := newLasting(func() (net.Listener, error) { return open(path, token, fallback) },
		func() bool { return whole(path, token) }, lookEvery)
	if err != nil {
		return nil, "", err
	}
	return l, token, nil
}

// whole reports whether the socket is there. A token that has gone from beside it is written again.
func whole(path, token string) bool {
	if !there(path) {
		return false
	}
	if !there(tokenPath(path)) {
		_ = writeToken(tokenPath(path), token) // tried again later
	}
	return true
}

// open writes the token and makes the socket beside it, and the private directory around both where
// that is not the data directory.
func open(path, token string, fallback bool) (net.Listener, error) {
	if fallback {
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := private(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	if err := writeToken(tokenPath(path), token); err != nil {
		return nil, err
	}
	l, err := listenunix.Unix(context.Background(), path)
	if err != nil {
		os.Remove(tokenPath(path))
		return nil, err
	}
	return &listener{Listener: l, path: tokenPath(path)}, nil
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
