package seal

import "io"

// ahead reads as much as has come, and grows with what comes: a session at rest costs 4 KiB, a busy one reads eight records at once.
type ahead struct {
	src  io.Reader
	buf  []byte
	r, w int  // what is read and not taken yet is buf[r:w]
	full bool // the last read filled buf
}

func (a *ahead) buffered() int { return a.w - a.r }

// peek returns the next n bytes without taking them; n is small.
func (a *ahead) peek(n int) ([]byte, error) {
	for a.buffered() < n {
		if err := a.fill(); err != nil {
			return nil, err
		}
	}
	return a.buf[a.r : a.r+n], nil
}

// Read takes what is there; it reads only if nothing is.
func (a *ahead) Read(p []byte) (int, error) {
	if a.buffered() == 0 {
		if err := a.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.buf[a.r:a.w])
	a.r += n
	return n, nil
}

// fill reads once. What is left moves to the front.
func (a *ahead) fill() error {
	size := max(len(a.buf), firstAhead)
	if a.full {
		size = min(2*size, mostAhead)
	}
	if a.buf == nil || size > len(a.buf) {
		grown := make([]byte, size)
		a.w = copy(grown, a.buf[a.r:a.w])
		a.buf = grown
	} else {
		a.w = copy(a.buf, a.buf[a.r:a.w])
	}
	a.r = 0
	n, err := a.src.Read(a.buf[a.w:])
	a.w += n
	a.full = a.w == len(a.buf)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
