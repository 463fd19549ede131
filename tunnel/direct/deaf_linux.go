package direct

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// withoutResets drops what has the flag RST (RFC 9293 section 3.1): byte 13 of a TCP header.
var withoutResets = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x04, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
}

// deafen has a socket that connects hear no refusal. The SYN of the first of two devices comes before
// the other one dials, and is refused; so deaf it waits, and the other one's SYN finds it. Where that
// cannot be had, the two dial until their SYNs cross.
func deafen(rc syscall.RawConn) {
	rc.Control(func(fd uintptr) {
		unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(withoutResets)), Filter: &withoutResets[0]})
	})
}

// hear undoes deafen.
func hear(c net.Conn) error {
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = rc.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	if failed == unix.ENOENT { // there was none
		failed = nil
	}
	if err == nil {
		err = failed
	}
	return err
}
