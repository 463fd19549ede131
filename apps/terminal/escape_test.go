//go:build linux

package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestEscapeFilter(t *testing.T) {
	tests := []struct {
		name, typed, want string
		left              bool
	}{
		{"leave at once", "~.more", "", true},
		{"leave after a line", "ls\r~.", "ls\r", true},
		{"not within a line", "a~.b", "a~.b", false},
		{"the character itself", "~~.\r~~", "~.\r~", false},
		{"another character", "~a\n~\r~.", "~a\n~\r", true},
		{"help", "~?x", "x", false},
		{"help does not begin a line", "~?~.", "", true},
		{"at the end", "\r~", "\r~", false},
	}
	for _, tt := range tests {
		for _, size := range []int{1, 2, 100} {
			t.Run(fmt.Sprintf("%s, %d at once", tt.name, size), func(t *testing.T) {
				helped := false
				e := &escape{r: &chunks{tt.typed, size}, char: '~', help: func() { helped = true }}
				got, err := io.ReadAll(e)
				if string(got) != tt.want || errors.Is(err, errLeft) != tt.left || helped != strings.Contains(tt.typed, "?") {
					t.Errorf("%q gave %q, %v, help %v", tt.typed, got, err, helped)
				}
			})
		}
	}
}

// chunks reads a text in pieces.
type chunks struct {
	text string
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.text == "" {
		return 0, io.EOF
	}
	n := copy(p, c.text[:min(c.size, len(c.text))])
	c.text = c.text[n:]
	return n, nil
}

// FuzzEscape: how what is typed is cut into pieces makes no difference, and what has no escape
// character is not touched.
func FuzzEscape(f *testing.F) {
	f.Add("ls\r~.", 1)
	f.Add("~~~?~", 3)
	f.Fuzz(func(t *testing.T, typed string, size int) {
		read := func(size int) (string, error) {
			b, err := io.ReadAll(&escape{r: &chunks{typed, size}, char: '~', help: func() {}})
			return string(b), err
		}
		one, err1 := read(max(len(typed), 1))
		got, err2 := read(1 + size&0xff)
		if one != got || err1 != err2 {
			t.Errorf("%q gave %q, %v and %q, %v", typed, one, err1, got, err2)
		}
		if !strings.Contains(typed, "~") && got != typed {
			t.Errorf("%q gave %q", typed, got)
		}
	})
}
