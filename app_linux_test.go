package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// aTerminal opens a terminal, and returns what its program and what its user has of it.
func aTerminal(t *testing.T) (program, user *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program, user
}

func TestAnAnswerOfAnAppCannotCommandTheTerminal(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "app", "install", "--yes", example(t, "guestbook"))
	w.ztm("root", "guestbook", "sign", "clear \x1b[2J it")
	for _, args := range [][]string{{"guestbook"}, {"app", "call", "guestbook"}} {
		program, user := aTerminal(t)
		if status := run(append([]string{"ztm", "--data", w.path("root")}, args...), strings.NewReader(""), program, io.Discard); status != 0 {
			t.Errorf("%v: status %d", args, status)
		}
		program.Close() // nothing more comes
		if shown, _ := io.ReadAll(user); !strings.Contains(string(shown), "clear ?[2J it") {
			t.Errorf("%v: the terminal shows %q", args, shown)
		}
	}
}
