package listen

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Unix opens a socket that its owner alone may connect to. The file goes when the listener is
// closed. A socket that a killed program left behind is replaced; a file of another kind, and a
// socket that is served, is an error.
func Unix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: controlPrivate}
	ln, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

var errOccupied = errors.New("there is a file of that name, and it is no socket: remove it, or choose another name")

// staleTimeout bounds the connection that finds out whether a socket is served. Local connections
// answer at once.
const staleTimeout = time.Second

// removeStale removes the socket that a program left behind when it was killed: one that refuses
// connections, because nobody listens on it. Whatever else is wrong with a connection, a full queue
// for example, does not say that. Anything else of that name stays, and is an error.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errOccupied
	}
	d := net.Dialer{Timeout: staleTimeout}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		return errsInUse[0]
	case errors.Is(err, syscall.EAGAIN): // its queue is full
		return errsInUse[0]
	case !isAny(err, errsRefused):
		return err
	}
	return os.Remove(path)
}
