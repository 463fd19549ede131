package script

import (
	"os"

	"golang.org/x/sys/unix"

	"ztm/apps/process"
)

// How an interpreter finds the script that it inherits.
const (
	inMemoryFD = 3
	inMemory   = "/proc/self/fd/3"
)

// give puts the script into a file in memory, which the interpreter opens through the descriptor
// that it inherits. The file has no name and needs no removal. A script that may pass on its own
// name gets a file on disk instead. So does every script on Android, whose versions before 11 kill
// a process that asks for a file in memory.
func give(source []byte, with interpreter, a *process.Account) (given, error) {
	if with.ending != "" || os.Getenv("ANDROID_ROOT") != "" {
		return giveFile(source, with.ending, a)
	}
	if !with.engine && namesItself(source) {
		if g, err := giveFile(source, "", a); err == nil {
			return g, nil
		}
		// The file system is read-only: without a name the script still runs.
	}
	fd, err := unix.MemfdCreate("script", unix.MFD_CLOEXEC)
	if err != nil { // Linux before 3.17
		return giveFile(source, with.ending, a)
	}
	f := os.NewFile(uintptr(fd), "script")
	if _, err := f.Write(source); err != nil {
		f.Close()
		return given{}, err
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil { // no /proc
		f.Close()
		return giveFile(source, with.ending, a)
	}
	return given{path: inMemory, files: []*os.File{f}, remove: func() {}}, nil
}
