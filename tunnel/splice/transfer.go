package splice

import (
	"io"
	"net"
	"sync"
)

// bufferSize is what one direction holds, in bytes, while neither the kernel nor a connection's own
// method moves the data: four TLS records, so that one write to a sealed flow carries what a fast
// sender has delivered meanwhile.
const bufferSize = 64 << 10

// buffers outlive connections, which come and go a thousand times a second: without it, each would
// cost the collector 128 KiB. A buffer's content means nothing between two uses.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// transfer moves bytes from src to dst until src ends, and returns how many dst took. The end of
// src is no error.
func transfer(dst, src net.Conn) (int64, error) {
	moved, done, err := inKernel(dst, src)
	if done {
		return moved, err
	}
	rest, err := inProcess(dst, src)
	return moved + rest, err
}

// inProcess moves bytes through this process. A *net.TCPConn has WriteTo and ReadFrom, too, but
// only for what inKernel does; for other partners they allocate a buffer for each connection.
func inProcess(dst, src net.Conn) (int64, error) {
	if w, ok := src.(io.WriterTo); ok && !isTCP(src) {
		return w.WriteTo(dst)
	}
	if r, ok := dst.(io.ReaderFrom); ok && !isTCP(dst) {
		return r.ReadFrom(src)
	}
	return inBuffer(dst, src)
}

// inBuffer is apart from inProcess, in which most flows wait: what waits should have little on its
// stack.
func inBuffer(dst, src net.Conn) (int64, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf[:])
}

func isTCP(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}
