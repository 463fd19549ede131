package direct

import "syscall"

// Reuse lets other connections have the port of a socket that is not bound yet.
func Reuse(rc syscall.RawConn) error {
	var err error
	if e := rc.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}); e != nil {
		return e
	}
	return err
}
