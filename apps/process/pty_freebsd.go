package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openPTY opens a new terminal. Its master has no deadlines: reading it ends when the leader of the
// session ends, because the kernel then revokes the slave.
func openPTY() (master, slave *os.File, err error) {
	fd, _, errno := unix.Syscall(unix.SYS_POSIX_OPENPT, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return nil, nil, os.NewSyscallError("posix_openpt", errno)
	}
	master = os.NewFile(fd, "pty")
	number, err := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}
