package cli

import (
	"context"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"ztm/apps"
)

// place is a path, and where it is.
type place struct {
	here bool          // on this machine, reached with the rights of this command
	ep   apps.Endpoint // if not here
	path string
}

// locate reads [EP:]PATH.
func locate(ctx context.Context, c apps.Console, arg string) (place, error) {
	name, path, ok := strings.Cut(arg, ":")
	drive := runtime.GOOS == "windows" && len(name) == 1
	if ok && name != "" && !strings.ContainsAny(name, `/\`) && !drive {
		ep, err := c.Trusted(ctx, name)
		return place{ep: ep, path: path}, err
	}
	if c.Chosen() {
		ep, err := c.Trusted(ctx, "")
		return place{ep: ep, path: arg}, err
	}
	return place{here: true, path: arg}, nil
}

// absolute is the path of a file here for the agent, which is in another directory.
func absolute(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		return path, nil
	}
	return filepath.Abs(path)
}

// base is the name that a copy of a path has in a directory.
func base(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndexAny(path, "/\\")+1:]
}

// onInterrupt ends a flow when a person interrupts this command, until stop is called.
func onInterrupt(ctx context.Context, conns ...net.Conn) (stop func() (interrupted bool)) {
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	over := make(chan struct{})
	done := make(chan bool)
	go func() {
		select {
		case <-ctx.Done():
			for _, c := range conns {
				c.Close()
			}
			<-over
			done <- true
		case <-over:
			done <- false
		}
	}()
	return func() bool {
		close(over)
		defer cancel()
		return <-done
	}
}
