//go:build darwin || freebsd

package confine

import (
	"encoding/json"
	"os"
	"syscall"
)

// start starts this binary again, as what becomes the program of an order that holds nothing: there are
// no means here.
func start(o Order, files []*os.File) (*os.Process, error) {
	if o.Means != (Means{}) {
		return nil, ErrUnable
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return os.StartProcess(self, []string{Applet, string(text)}, &os.ProcAttr{Dir: o.Dir, Files: files, Env: []string{}, Sys: &syscall.SysProcAttr{Setsid: true}})
}
