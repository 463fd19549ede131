package cli

import (
	"io"
	"os"
	"unicode/utf8"

	"ztm/apps"
)

// watched is w where a program or a file reads it. Where a person does, it is w without what could
// command the terminal.
func watched(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return w
	}
	if fi, err := f.Stat(); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return w
	}
	return &tamed{w: w}
}

// tamed passes text on: of what is no text it keeps the ends of lines and the tabs.
type tamed struct {
	w    io.Writer
	part []byte // the first bytes of a character
}

func (t *tamed) Write(p []byte) (int, error) {
	var out []byte
	text := append(t.part, p...)
	for utf8.FullRune(text) {
		r, n := utf8.DecodeRune(text)
		if r != '\n' && r != '\t' {
			out = append(out, apps.Printable(string(r))...)
		} else {
			out = append(out, byte(r))
		}
		text = text[n:]
	}
	t.part = text
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
