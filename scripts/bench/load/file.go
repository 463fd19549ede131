package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// sendFile sends a file below the directory of this process as cat would. Its name comes first, in n bytes. Anybody on the machine may
// ask, so files elsewhere are nobody's.
func sendFile(c net.Conn, n uint64) {
	name := make([]byte, min(n, 4096))
	if _, err := io.ReadFull(c, name); err != nil {
		return
	}
	f, err := os.OpenInRoot(".", string(name))
	if err != nil {
		return
	}
	defer f.Close()
	copyBytes(c, f)
}

// copyBytes copies with plain reads and writes: most programs at the ends of a tunnel have nothing better.
func copyBytes(dst io.Writer, src io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, block))
}

// File fetches a file below the server's directory and writes it to another one, as far as the disk.
func File(ctx context.Context, address, name, to string, size int64) (err error) {
	c, err := dial(ctx, address, 'F', uint64(len(name)))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, name); err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := copyBytes(f, c)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d arrived", n, size)
	}
	return errors.Join(err, f.Sync())
}
