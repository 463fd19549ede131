package splice

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is how much one pipe holds, in bytes. Twice as much moves bytes no faster, half as much
// costs a tenth more CPU time. It is also what the kernel keeps for a direction whose reader is
// slow.
const pipeSize = 512 << 10

// pipe is a pipe of the kernel. It belongs to whoever took it.
type pipe struct {
	r, w int // descriptors
	held int // bytes in it
}

// idlePipes keeps pipes that nobody needs at the moment, at most 16 (when full, a pipe is closed;
// never closed itself): a busy connection takes and releases one for every few packets, and making
// one costs four system calls.
var idlePipes = make(chan *pipe, 16)

// takePipe returns an empty pipe.
func takePipe() (*pipe, error) {
	select {
	case p := <-idlePipes:
		return p, nil
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // one that cannot grow works, too
	return &pipe{r: fds[0], w: fds[1]}, nil
}

// release gives the pipe back. Bytes that are left in it are lost.
func (p *pipe) release() {
	if p.held == 0 {
		select {
		case idlePipes <- p:
			return
		default:
		}
	}
	unix.Close(p.r)
	unix.Close(p.w)
}
