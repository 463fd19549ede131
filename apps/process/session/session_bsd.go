//go:build darwin || freebsd

package session

import "golang.org/x/sys/unix"

// maxPID is the highest process number of both systems (PID_MAX).
const maxPID = 99999

// Members returns the processes of a session. There is no portable list of them. Asking for every
// process ID takes some 20 ms, and happens only when a session is ended. Zombies are included on
// systems where they answer.
func Members(sid int) ([]int, error) {
	var pids []int
	for pid := 2; pid <= maxPID; pid++ {
		if s, err := unix.Getsid(pid); err == nil && s == sid {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
