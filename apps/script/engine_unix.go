//go:build unix && !ztm_router && !ztm_omit_js

package script

import (
	"os"
	"syscall"
)

// statusOf returns the status of a program that has ended.
func statusOf(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
