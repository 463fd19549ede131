//go:build linux || freebsd || darwin

package mirror

import (
	"io/fs"
	"syscall"
)

// inode returns when the inode of a file changed, and its number.
func inode(info fs.FileInfo) (changed int64, id uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return ctime(st), uint64(st.Ino)
}

// deviceOf returns the number of the file system that a file is on.
func deviceOf(info fs.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint64(st.Dev)
}
