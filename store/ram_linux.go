package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ramFile makes a nameless file in RAM, for this process alone.
func ramFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("ztm", unix.MFD_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) { // before Linux 3.17
		return namelessFile()
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "ztm (RAM)"), nil
}
