//go:build darwin || freebsd

package process

import "golang.org/x/sys/unix"

// maxPID is the highest process number of both systems (PID_MAX).
const maxPID = 99999

// session returns the processes of a session. There is no portable list of them. Asking for every
// process ID takes some 20 ms, and happens only when a session is ended. Zombies are included on
// systems where they answer.
func session(sid int) ([]int, error) {
	var pids []int
	for pid := 2; pid <= maxPID; pid++ {
		if s, err := unix.Getsid(pid); err == nil && s == sid {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// exited waits until the program has ended. Here that takes its zombie away, too.
func (c *child) exited() { c.wait() }
