//go:build linux || darwin || freebsd

package transfer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sparse reports whether a file may have holes: it takes less room than its size.
func sparse(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Blocks)*512 < info.Size() && info.Size() > small
}

// dataAfter returns where the next data of a file is, at or behind an offset; [io.EOF] if there is
// none. Another error says that the file system does not know.
func dataAfter(f *os.File, at int64) (int64, error) {
	next, err := f.Seek(at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, io.EOF
	}
	return next, err
}
