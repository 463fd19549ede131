//go:build !linux

package process

import "os/exec"

// endWithUs does nothing: the system cannot.
func endWithUs(*exec.Cmd) {}
