package tunnel

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"ztm/apps/udp"
)

// listen opens a listener on one port or socket: a net.Listener, or a *udp.Socket.
func listen(transport string, a Address) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	network, address := a.network(transport)
	if network == "unix" {
		return listenUnix(ctx, address)
	}
	if transport == UDP {
		return udp.Listen(ctx, network, address)
	}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	return config.Listen(ctx, network, address)
}

// listenUnix opens a socket that its owner alone may connect to. The file goes when the listener is closed.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
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

// removeStale removes the socket that a program left behind when it was killed: one that nobody listens on. Anything
// else of that name stays, and is an error.
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
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return errsInUse[0]
	}
	if !isAny(err, errsRefused) {
		return err
	}
	return os.Remove(path)
}
