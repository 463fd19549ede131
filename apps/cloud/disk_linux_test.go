package cloud

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/state"
)

func TestAnUnmountedDiskDeletesNothingAndIsInStepWhenItIsBack(t *testing.T) {
	var n appstest.Net
	a, b := newPlace(t, &n, "a", "alice"), newMirror(t, &n, "b", bothWays)
	disk, docs := t.TempDir(), a.file("alice", "docs")
	if err := os.MkdirAll(docs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	mount := func() {
		t.Helper()
		if err := unix.Mount(disk, docs, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	defer unix.Unmount(docs, unix.MNT_DETACH)
	a.app.still = b.app.still
	both := bothWays
	both.Path = "docs"
	a.must("POST", "mirrors", both, nil)
	a.write("docs/x", []byte("one"))
	b.has("docs/x", "one")
	appstest.Eventually(t, "b knows that it has it", func() bool { return b.files("docs")["/users/alice/docs/x"].State == state.Synced })
	a.stop()
	if err := unix.Unmount(docs, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	a.start()
	for range 2 { // looks
		a.look()
		appstest.Eventually(t, "it says so", func() bool { return strings.Contains(a.mirror().Error, mirror.ErrGone.Error()) })
	}
	if f := b.files("docs")["/users/alice/docs/x"]; f.State != state.Synced || b.text("docs/x") != "one" {
		t.Errorf("there the file is %+v, %q", f, b.text("docs/x"))
	}
	a.stop()
	mount()
	before, err := os.Stat(filepath.Join(docs, "x"))
	if err != nil {
		t.Fatal(err)
	}
	a.start()
	a.look()
	appstest.Eventually(t, "it goes on", func() bool { return a.mirror().Error == "" && a.mirror().Files == 1 })
	after, err := os.Stat(filepath.Join(docs, "x"))
	if err != nil || !os.SameFile(before, after) || a.inTrash("one") || b.inTrash("one") {
		t.Errorf("something was fetched again, or replaced: %v", err)
	}
}

// look has the mirror look, once it runs.
func (p *place) look() {
	p.t.Helper()
	appstest.Eventually(p.t, "the mirror runs", func() bool {
		p.app.mu.Lock()
		defer p.app.mu.Unlock()
		m := p.app.mirrors["/users/alice/docs"]
		if m != nil {
			m.Look()
		}
		return m != nil
	})
}

// powerDisk is a file system in an image, of which a copy has what a loss of power would leave.
type powerDisk struct {
	t          *testing.T
	image, dir string
}

func newPowerDisk(t *testing.T) *powerDisk {
	t.Helper()
	d := &powerDisk{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(96<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("no file system is made: %v, %s", err, out)
	}
	d.mount(d.image, d.dir)
	return d
}

func (d *powerDisk) mount(image, dir string) {
	d.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		d.t.Skipf("cannot mount: %v, %s", err, out)
	}
	d.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// lose returns where files are as they are on the disk if the power fails now.
func (d *powerDisk) lose() (dir string) {
	d.t.Helper()
	left := filepath.Join(d.t.TempDir(), "image")
	from, err := os.Open(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(left)
	if err == nil {
		_, err = io.Copy(to, from)
		err = errors.Join(err, to.Close())
	}
	if err != nil {
		d.t.Fatal(err)
	}
	dir = d.t.TempDir()
	d.mount(left, dir)
	return filepath.Join(dir, "users", "alice")
}

func TestWhatIsSaidToBeHereIsHereAfterALossOfPower(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	d := newPowerDisk(t)
	bob.must("PATCH", "config", config.Change{LocalDir: &d.dir}, nil)
	bob.dir = d.dir
	for version := range 2 {
		content := random(3<<20 + version)
		alice.publish("big", content, "bob")
		bob.wants("/users/alice/big", content)
		if got, err := os.ReadFile(filepath.Join(d.lose(), "big")); err != nil || !bytes.Equal(got, content) {
			t.Errorf("version %d is %d bytes on the disk, %v", version, len(got), err)
		}
	}
	for i := range 5 { // small ones are made durable together
		alice.publish(fmt.Sprintf("many/%d", i), random(1000+i), "bob")
	}
	if p, err := bob.download("/users/alice/many"); err != nil || p.Done != 5 {
		t.Fatalf("%+v, %v", p, err)
	}
	left := d.lose()
	for i := range 5 {
		if got, err := os.ReadFile(filepath.Join(left, "many", fmt.Sprint(i))); err != nil || !bytes.Equal(got, random(1000+i)) {
			t.Errorf("%d is %d bytes on the disk, %v", i, len(got), err)
		}
	}
}
