package process

import (
	"os/exec"
	"syscall"
)

// endWithUs has a program killed when this process is. It would go on, and hold what it has inherited: the lock of flock(1), if this
// process runs under one.
func endWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
