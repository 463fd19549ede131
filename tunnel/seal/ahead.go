package seal

import (
	"io"

	"ztm/tunnel/room"
)

// ahead reads as much as has come, and grows with what comes: a session at rest costs 4 KiB, a busy one reads many records at once.
type ahead struct {
	src  io.Reader
	room room.Room
	buf  []byte // of room
	r, w int    // what is read and not taken yet is buf[r:w]
}

// What a connection reads ahead.
var aheads = room.Bulk(4 << 10)

func newAhead(src io.Reader) ahead { return ahead{src: src, room: room.Room{Ladder: aheads()}} }

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
	rest := a.buf[a.r:a.w]
	a.buf = a.room.Next(rest)
	a.r, a.w = 0, len(rest)
	n, err := a.src.Read(a.buf[a.w:])
	a.w += n
	a.room.Brought(a.w)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
