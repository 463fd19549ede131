package script

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"

	"ztm/apps"
)

// lines writes whole lines, each with a prefix that names its endpoint.
type lines struct {
	w      io.Writer
	prefix string
	mu     *sync.Mutex // of w: held for one line
	part   []byte      // of a line that has not ended
}

// maxLine is the longest line, in bytes; a longer one is cut.
const maxLine = 64 << 10

func (l *lines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.part = append(l.part, rest...)
			if len(l.part) < maxLine {
				return len(p), nil
			}
			i, rest = 0, nil
		} else {
			l.part = append(l.part, rest[:i]...)
			rest = rest[i+1:]
		}
		if err := l.line(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush writes a line that has not ended.
func (l *lines) flush() {
	if len(l.part) > 0 {
		l.line() // an error changes nothing: the run is over
	}
}

func (l *lines) line() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.w.Write(append(append([]byte(l.prefix), l.part...), '\n'))
	l.part = l.part[:0]
	return err
}

// capped is a buffer that drops what is beyond maxCapture bytes.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), maxCapture-c.Len())])
	return len(p), nil
}

// bytes returns what was kept. It leaves out a character that the limit has cut, so that text stays
// text.
func (c *capped) bytes() apps.Bytes {
	b := c.Bytes()
	for i := len(b) - 1; len(b) == maxCapture && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				b = b[:i]
			}
			break
		}
	}
	return apps.Bytes(b)
}
