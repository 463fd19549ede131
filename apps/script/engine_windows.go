//go:build !ztm_router && !ztm_omit_js

package script

import "os"

// statusOf returns the status of a program that has ended.
func statusOf(s *os.ProcessState) int { return s.ExitCode() }
