//go:build darwin || freebsd

package confine

import (
	"os"
	"syscall"
)

// start starts the program of an order that holds nothing: there are no means here.
func start(o Order, files []*os.File) (*os.Process, error) {
	if o.Means != (Means{}) {
		return nil, ErrUnable
	}
	return os.StartProcess(o.Path, o.Args, &os.ProcAttr{Dir: o.Dir, Env: o.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
}
