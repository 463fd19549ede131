package netns

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Line is Link with a cable on which each frame is for a time: each way. It is this program that holds
// the frames, where a kernel has no netem.
func (n *Net) Line(one, other, oneAddress, otherAddress string, delay time.Duration) {
	ends := [2]*os.File{n.tap(one, other), n.tap(other, one)}
	if n.err != nil {
		return
	}
	for i := range ends { // both end with the files
		go hold(ends[1-i], ends[i], delay)
	}
	n.up(one, other, oneAddress, otherAddress)
}

// tap gives a place an interface, whose frames come to this program. It is called after the place at
// the other end.
func (n *Net) tap(place, other string) *os.File {
	if n.err != nil {
		return nil
	}
	f, name, err := openTap()
	if err != nil {
		n.err = fmt.Errorf("a line from %s to %s: %w", place, other, err)
		return nil
	}
	n.open = append(n.open, f)
	n.Run("ip", "link", "set", "dev", name, "netns", n.Name(place), "name", other)
	return f
}

// openTap makes an interface of Ethernet, which lasts as long as the file is open.
func openTap() (*os.File, string, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", err
	}
	req, err := unix.NewIfreq("line%d") // the kernel counts
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), req.Name(), nil
}

// frame is one on its way.
type frame struct {
	b  []byte
	at time.Time // when it comes
}

// maxFrame is as much as an interface sends at once, in bytes, and onLine how many frames are on a line: what
// is more is lost, as on any line.
const (
	maxFrame = 1600
	onLine   = 1 << 14
)

// hold writes to one end of a line what comes at the other one, as late as it is to be.
func hold(dst io.Writer, src io.Reader, delay time.Duration) {
	way := make(chan frame, onLine)
	go func() { // ends with way
		for f := range way {
			wait := time.NewTimer(time.Until(f.at))
			<-wait.C
			dst.Write(f.b)
		}
	}()
	defer close(way)
	for {
		b := make([]byte, maxFrame)
		n, err := src.Read(b)
		if err != nil {
			return
		}
		select {
		case way <- frame{b[:n], time.Now().Add(delay)}:
		default:
		}
	}
}
