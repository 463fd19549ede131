package run

import (
	"bytes"
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
