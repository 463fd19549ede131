//go:build unix

package terminal

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"ztm/apps/process"
)

// window is the terminal that this command was typed in.
type window struct{ in, out *os.File }

// isWindow reports whether a file is a terminal.
func isWindow(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// raw makes the terminal pass on every key as it is, and returns what restores it.
func (w window) raw() (restore func(), err error) {
	fd := int(w.in.Fd())
	saved, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	t := *saved
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, setTermios, &t); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, saved) }, nil
}

func (w window) size() process.Size {
	s, err := unix.IoctlGetWinsize(int(w.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return process.Size{}
	}
	return process.Size{Cols: s.Col, Rows: s.Row}
}

// resized calls f after each change of the size, until stop is called. stop waits for f.
func (w window) resized(f func()) (stop func()) {
	changed := make(chan os.Signal, 1) // full: a change is about to be seen; never closed
	signal.Notify(changed, syscall.SIGWINCH)
	return until(func(ended <-chan struct{}) {
		defer signal.Stop(changed)
		for {
			select {
			case <-changed:
				f()
			case <-ended:
				return
			}
		}
	})
}
