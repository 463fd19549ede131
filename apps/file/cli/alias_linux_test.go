package cli

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// A file system that folds case knows a directory by many names. A bind mount gives it one more.
func TestWhatIsNarrowedIsNotReachedByAnotherSpelling(t *testing.T) {
	m := newMesh(t)
	m.write("pub/closed/y", "private")
	m.write("pub/sub/closed/y", "private")
	if err := errors.Join(os.Mkdir(m.path("pub/CLOSED"), 0o755), os.Mkdir(m.path("pub/SUB"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"pub/closed": "pub/CLOSED", "pub/sub": "pub/SUB"} {
		if err := syscall.Mount(m.path(from), m.path(to), "", syscall.MS_BIND, ""); err != nil {
			t.Skip("cannot mount: ", err)
		}
		t.Cleanup(func() { syscall.Unmount(m.path(to), syscall.MNT_DETACH) })
	}
	m.good(m.office, "allow", "--users", "bob", m.path("pub"))
	m.good(m.office, "allow", "--users", "bob", m.path("pub/SUB"))
	m.good(m.office, "allow", "--users", "carol", m.path("pub/closed"))
	m.good(m.office, "allow", "--users", "carol", m.path("pub/sub/closed"))
	for _, path := range []string{"pub/CLOSED/y", "pub/CLOSED", "pub/SUB", "pub/SUB/closed"} {
		if r := m.run(m.phone, "cp", "-r", "office:"+m.path(path), m.path("got")); r.Failure == "" || m.read("got") != "(nothing)" || m.read("got/y") != "(nothing)" {
			t.Errorf("%s was read: %+v", path, r)
		}
	}
}
