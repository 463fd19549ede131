//go:build unix

package run

import (
	"os"
	"syscall"
)

// startWarden starts the warden in a session of its own: what ends the terminal of the agent does
// not end it.
func startWarden(pipe *os.File) (*os.Process, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	return os.StartProcess(exe, []string{WardenApplet}, &os.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"},
		Files: []*os.File{pipe, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}})
}
