package splice

import (
	"io"
	"net"
	"sync"
)

// bufferSize is what one direction holds, in bytes, while neither the kernel nor a connection's own method moves the
// data: four TLS records, so that one write to a sealed flow carries what a fast sender has delivered meanwhile.
const bufferSize = 64 << 10

// buffers is the one variable of the package: buffers outlive single connections, which come and go a thousand times
// a second; without it every short connection would cost the collector 128 KiB. It carries no state between uses.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// transfer moves bytes from src to dst until src ends, and returns how many dst took. The end of src is no error.
func transfer(dst, src net.Conn) (int64, error) {
	if inKernel(dst, src) {
		// Nothing may be wrapped here: net looks at the concrete types to decide for splice(2).
		return io.Copy(dst, src)
	}
	if w, ok := src.(io.WriterTo); ok && !isTCP(src) {
		return w.WriteTo(dst)
	}
	if r, ok := dst.(io.ReaderFrom); ok && !isTCP(dst) {
		return r.ReadFrom(src)
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	// A *net.TCPConn has ReadFrom and WriteTo for the sake of splice(2); for any other partner they allocate a buffer
	// of their own. Hence the wrappers.
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf[:])
}

func isTCP(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}
