package terminal

import (
	"errors"
	"io"
)

// errLeft is returned by escape.Read when the user asked to leave.
var errLeft = errors.New("left")

const escapeHelp = "\r\nEscapes, after a new line:\r\n" +
	"  %c.  leave; the session ends unless it is kept\r\n" +
	"  %c%c  the character itself\r\n" +
	"  %c?  this text\r\n"

// escape filters what is typed for escapes at the beginning of a line, as ssh does: `~.` leaves,
// `~?` shows help, `~~` is a `~`. Everything else passes unchanged.
type escape struct {
	r    io.Reader
	char byte   // 0 for none
	help func() // shows the help

	held bool // the character was typed first in a line, and is not passed on yet
	line bool // something was typed since the last new line
	buf  []byte
	out  []byte // to be read
	err  error  // to be returned after out
}

func (e *escape) Read(p []byte) (int, error) {
	if e.char == 0 {
		return e.r.Read(p)
	}
	for len(e.out) == 0 && e.err == nil {
		if e.buf == nil {
			e.buf = make([]byte, 4<<10)
		}
		n, err := e.r.Read(e.buf)
		e.out, e.err = e.out[:0], err
		e.filter(e.buf[:n])
		if err != nil && e.held {
			e.out, e.held = append(e.out, e.char), false
		}
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	if n > 0 {
		return n, nil
	}
	return 0, e.err
}

func (e *escape) filter(typed []byte) {
	for _, c := range typed {
		if e.held {
			e.held = false
			switch c {
			case '.':
				e.err = errLeft
				return
			case '?':
				e.help()
				continue
			case e.char:
			default:
				e.out = append(e.out, e.char)
			}
		} else if c == e.char && !e.line {
			e.held = true
			continue
		}
		e.out = append(e.out, c)
		e.line = c != '\r' && c != '\n'
	}
}
