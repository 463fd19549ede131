//go:build linux || darwin || freebsd

package rooted

import "golang.org/x/sys/unix"

// free returns how many bytes the file system of a directory has for this account, and how large it is.
func free(fd uintptr) (left, size uint64, known bool) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(fd), &st); err != nil {
		return 0, 0, false
	}
	return uint64(max(st.Bavail, 0)) * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), true
}
