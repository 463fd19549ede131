package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// TestAFullDiskIsSaidSoAndHarmsNothing copies to a file system of one megabyte.
func TestAFullDiskIsSaidSoAndHarmsNothing(t *testing.T) {
	to := t.TempDir()
	if err := syscall.Mount("tmpfs", to, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(to, syscall.MNT_DETACH) })
	from := t.TempDir()
	put(t, filepath.Join(to, "tree/00"), []byte("old"))
	put(t, filepath.Join(from, "large"), random(2*block))
	x := over(t, from, "large", to, rooted.Name{}, Options{}, nil)
	if len(x.got.Failures) != 1 || !strings.Contains(x.got.Failures[0].Why, "there is no room for 2097152 bytes") {
		t.Errorf("a large file: %+v", x)
	}
	for i := range 30 {
		put(t, filepath.Join(from, "tree", fmt.Sprintf("%02d", 30-i)), random(60_000))
	}
	x = over(t, from, "tree", to, rooted.Name{}, Options{}, nil)
	if answer.CodeOf(x.getErr) != answer.Limit || answer.CodeOf(x.sendErr) != answer.Limit || !strings.Contains(x.sendErr.Error(), "no space left") {
		t.Errorf("small files: receiver %v, sender %v", x.getErr, x.sendErr)
	}
	if b, err := os.ReadFile(filepath.Join(to, "tree/00")); string(b) != "old" || err != nil {
		t.Errorf("what was there is %q, %v", b, err)
	}
	whole := listing(t, filepath.Join(from, "tree"))
	for name, is := range listing(t, filepath.Join(to, "tree")) {
		if strings.HasPrefix(name, ".ztm") || name != "00" && is != whole[name] {
			t.Errorf("%s is not complete", name)
		}
	}
}
