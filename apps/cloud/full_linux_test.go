package cloud

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
	"ztm/apps/cloud/config"
)

func TestOnAFullDiskTheErrorNamesTheFileAndTheRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=20m"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	bob.must("PATCH", "config", config.Change{LocalDir: &disk}, nil)
	bob.dir = disk
	alice.publish("small", random(1000), "bob")
	bob.wants("/users/alice/small", random(1000))
	alice.publish("small", random(2000))
	alice.publish("big", random(20<<20), "bob")
	d, err := bob.download("/users/alice/big")
	if err != nil || len(d.Failed) != 1 || !strings.Contains(d.Failed[0].Error, "/users/alice/big needs 20971520 bytes") {
		t.Errorf("%+v, %v", d, err)
	}
	if b, _ := os.ReadFile(bob.file("alice", "small")); len(b) != 1000 {
		t.Errorf("the old file has %d bytes", len(b))
	}
	var s Status
	bob.must("GET", "status", nil, &s)
	if len(s.Problems) != 1 || s.Problems[0].Path != "/users/alice/big" {
		t.Errorf("status says %+v", s.Problems)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	bob.wants("/users/alice/big", random(20<<20))
}
