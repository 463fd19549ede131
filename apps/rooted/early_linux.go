//go:build !ztm_router

package rooted

import "golang.org/x/sys/unix"

// begin has the disk begin with what is in memory of a file, and does not wait for it.
func begin(fd uintptr) { unix.SyncFileRange(int(fd), 0, 0, unix.SYNC_FILE_RANGE_WRITE) }
