package process

import "golang.org/x/sys/unix"

// exited waits until the program has ended, and leaves it a zombie.
func (c *child) exited() {
	for unix.Waitid(unix.P_PID, c.process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
