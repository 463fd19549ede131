//go:build linux || darwin || freebsd

package rooted

import "golang.org/x/sys/unix"

// free returns how many bytes the file system of a directory has for this account.
func free(fd uintptr) (uint64, bool) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(fd), &st); err != nil {
		return 0, false
	}
	return uint64(max(st.Bavail, 0)) * uint64(st.Bsize), true
}
