package run

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// awaitEnd waits until a process has ended, and calls then while it is a zombie: its number is not
// given to another while what it started is looked for.
func awaitEnd(p *os.Process, then func()) (*os.ProcessState, error) {
	for unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	then()
	return p.Wait()
}

// memoryOf returns the memory that all processes of a session hold, in bytes.
func memoryOf(sid int) (bytesHeld int64) {
	for _, pid := range members(sid) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
		if err != nil {
			continue
		}
		if f := bytes.Fields(b); len(f) > 1 {
			pages, _ := strconv.ParseInt(string(f[1]), 10, 64) // the kernel writes numbers
			bytesHeld += pages * int64(os.Getpagesize())
		}
	}
	return bytesHeld
}

// openOf returns what the processes of a session hold open without a name. A file that several have
// open counts once.
func openOf(sid int, dir string) (all nameless, err error) {
	var home unix.Stat_t
	if err := unix.Stat(dir, &home); err != nil {
		return all, err
	}
	type file struct{ dev, ino uint64 }
	seen := map[file]bool{}
	for _, pid := range members(sid) {
		fds := "/proc/" + strconv.Itoa(pid) + "/fd/"
		names, err := os.ReadDir(fds)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // it has ended
			return all, err
		}
		for _, name := range names {
			var st unix.Stat_t
			if unix.Stat(fds+name.Name(), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 0 || seen[file{uint64(st.Dev), st.Ino}] {
				continue
			}
			seen[file{uint64(st.Dev), st.Ino}] = true
			if st.Dev == home.Dev {
				all.files++
				all.bytes += st.Blocks * block
			} else {
				all.memory += st.Blocks * block
			}
		}
	}
	return all, nil
}
