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
//
// Most flows wait in here, so there is little on the stack. A *net.TCPConn has WriteTo and ReadFrom,
// too, but only for what inKernel does; for other partners they allocate a buffer for each
// connection.
func transfer(dst, src net.Conn) (moved int64, err error) {
	moved, done, err := inKernel(dst, src)
	if done {
		return moved, err
	}
	var rest int64
	if w, ok := src.(io.WriterTo); ok && !isTCP(src) {
		rest, err = w.WriteTo(dst)
	} else if r, ok := dst.(io.ReaderFrom); ok && !isTCP(dst) {
		rest, err = r.ReadFrom(src)
	} else {
		rest, err = inBuffer(dst, src)
	}
	return moved + rest, err
}

// inBuffer moves bytes through a buffer of this process.
func inBuffer(dst, src net.Conn) (int64, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf[:])
}

func isTCP(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}
