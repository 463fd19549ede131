package rooted

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestADiskThatHasNoModesTakesFilesAndDirectories(t *testing.T) {
	below, dir := t.TempDir(), t.TempDir()
	if out, err := exec.Command("bindfs", "--chmod-deny", "-p", "0755", below, dir).CombinedOutput(); err != nil { // as FAT
		t.Skipf("no such disk: %v %s", err, out)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	name, sub := Name{"file"}, Name{"directory"}
	p, err := d.Create(name, "", true)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Unix(1e9, 0)
	if err := p.Commit(0o600, then, true); err != nil {
		t.Errorf("a file: %v", err)
	}
	if err := d.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []Name{name, sub} {
		if err := d.SetAttributes(n, 0o600, then); err != nil {
			t.Errorf("%v: %v", n, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".ztm*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestAUsualDiskHasModes(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !d.hasModes() {
		t.Error("the disk is said to have no modes")
	}
}
