package splice

// One direction between two sockets, without the bytes coming into this process:
//
//	src -- fill: splice(2) --> pipe -- drain: splice(2) --> dst
//
//  1. fill waits for bytes of src with no pipe in hand, and takes one when they are there.
//  2. drain waits until dst has taken them all.
//  3. When src has no more for now, the pipe goes back, for the next direction that needs one.
//
// [io.Copy] between two *net.TCPConn does the same but keeps two pipes as long as the connections
// live, idle or not. On a hub with thousands of idle paths these are four descriptors more for
// each; and with 32 paths they exhaust what the kernel grants the pipes of an unprivileged user
// (16,384 pages, see pipe(7)): all later ones hold 8 KiB, and moving bytes through them takes twice
// the CPU time.

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// inKernel moves bytes from src to dst until src ends, and returns how many dst took. If done is
// false, the kernel cannot do it, or not to the end, and the rest is to be moved by other means.
func inKernel(dst, src net.Conn) (total int64, done bool, err error) {
	to, from := socket(dst), socket(src)
	if to == nil || from == nil {
		return 0, false, nil
	}
	h := &hop{}
	defer h.release()
	fill, drain := h.fill, h.drain // bound once, not for each chunk
	for {
		if err := from.Read(fill); err != nil {
			return total, true, err
		}
		if h.pipe == nil || h.err == unix.EINVAL { // no pipe to be had, or a kernel without splice for src
			return total, false, nil
		}
		if h.err != nil || h.n == 0 {
			return total, true, opError("read", src, h.err)
		}
		for h.pipe.held > 0 {
			if err := to.Write(drain); err != nil {
				return total, true, err
			}
			if h.err != nil {
				return total, true, opError("write", dst, h.err)
			}
			total += int64(h.n)
		}
	}
}

// hop is the state of one direction. n and err are what the last call of fill or drain did.
type hop struct {
	pipe *pipe // nil while waiting for src
	n    int
	err  error
}

// fill moves what src has to an empty pipe. It is false if src has nothing yet.
func (h *hop) fill(src uintptr) bool {
	if h.pipe == nil {
		if h.pipe, h.err = takePipe(); h.err != nil {
			return true
		}
	}
	if h.n, h.err = move(h.pipe.w, int(src), pipeSize); h.err == unix.EAGAIN {
		h.release()
		return false
	}
	h.pipe.held = h.n
	return true
}

// drain moves as much as dst takes from the pipe. It is false if dst takes nothing yet.
func (h *hop) drain(dst uintptr) bool {
	if h.n, h.err = move(int(dst), h.pipe.r, h.pipe.held); h.err == unix.EAGAIN {
		return false
	}
	h.pipe.held -= h.n
	return true
}

func (h *hop) release() {
	if h.pipe != nil {
		h.pipe.release()
		h.pipe = nil
	}
}

// move is splice(2); after an error, it has moved nothing.
func move(dst, src, most int) (int, error) {
	for {
		n, err := unix.Splice(src, nil, dst, nil, most, unix.SPLICE_F_NONBLOCK)
		if err == nil {
			return int(n), nil
		}
		if err != unix.EINTR {
			return 0, err
		}
	}
}

// socket returns access to the descriptor of a stream socket, nil for any other connection.
func socket(c net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	switch c := c.(type) {
	case *net.TCPConn:
		raw, _ = c.SyscallConn()
	case *net.UnixConn:
		if c.LocalAddr().Network() == "unix" {
			raw, _ = c.SyscallConn()
		}
	}
	return raw
}

// opError dresses an error, if there is one, as package net does.
func opError(op string, c net.Conn, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{
		Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("splice", err),
	}
}
