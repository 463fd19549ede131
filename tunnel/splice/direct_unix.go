//go:build unix

package splice

import "syscall"

// directOf returns a function that writes what the socket takes now.
func directOf(c syscall.Conn) func(p []byte) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return func(p []byte) (n int) {
		raw.Write(func(fd uintptr) bool {
			n, _ = syscall.Write(int(fd), p) // a failure is met again by a Write that waits
			return true                      // in any case: false would wait
		})
		return max(n, 0)
	}
}
