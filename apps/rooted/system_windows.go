package rooted

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

const (
	nonblock         = 0
	syncsDirectories = false // NTFS keeps a journal of names
	renamesOpenFiles = false
)

// lock takes a file for one process alone.
func lock(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 1 << 30} // behind all content: a lock forbids reading
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
}

// foreign does not know: links there need the rights of who owns the file.
func foreign(fs.FileInfo) bool { return false }

// alone reports whether a file has one name.
func alone(f *os.File) bool {
	var info windows.ByHandleFileInformation
	err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info)
	return err == nil && info.NumberOfLinks == 1
}
