//go:build unix

package script

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketPair returns two ends of a connection: one for a process to inherit.
func socketPair() (near net.Conn, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	end := os.NewFile(uintptr(fds[0]), "bridge")
	near, err = net.FileConn(end)
	end.Close()
	far = os.NewFile(uintptr(fds[1]), "bridge")
	if err != nil {
		far.Close()
		return nil, nil, err
	}
	return near, far, nil
}

// inherited returns the engine's end of the bridge, and lets no other program inherit it.
func inherited() (net.Conn, error) {
	unix.CloseOnExec(bridgeFD)
	f := os.NewFile(bridgeFD, "bridge")
	defer f.Close()
	return net.FileConn(f)
}
