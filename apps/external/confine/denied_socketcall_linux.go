//go:build 386 || mips || mipsle

package confine

import "golang.org/x/sys/unix"

// deniedHere has socketcall, whose arguments lie behind a pointer: what it would open cannot be
// seen. Programs that know nothing else have no sockets.
var deniedHere = []uint32{unix.SYS_SOCKETCALL, unix.SYS_IOPERM, unix.SYS_IOPL, unix.SYS_MODIFY_LDT}
