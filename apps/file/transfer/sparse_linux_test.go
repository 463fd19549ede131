package transfer

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/rooted"
)

func TestHolesStayHoles(t *testing.T) {
	appstest.Long(t)
	from, to := t.TempDir(), t.TempDir()
	path := filepath.Join(from, "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 120*block + 12345
	for _, at := range []int64{0, 3*block + 8192, 3*block + 300<<10, 70 * block, 119*block + 4096} {
		if _, err := f.WriteAt(random(5000), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if used(t, path) > 4*block {
		t.Skip("this file system has no holes")
	}
	m := &Meter{}
	if r := clean(t, from, "f", to, Options{Meter: m}); r.Bytes != size || m.Bytes.Load() != size {
		t.Errorf("%+v, %d counted", r, m.Bytes.Load())
	}
	if !same(t, path, filepath.Join(to, "f")) {
		t.Error("they differ")
	}
	if n := used(t, filepath.Join(to, "f")); n > 4*block {
		t.Errorf("the copy takes %d bytes, the file %d", n, used(t, path))
	}
	// Holes are no work for the second time either.
	if r := clean(t, from, "f", to, Options{}); r.Same != 1 {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(filepath.Join(to, "f")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100*block+1); err != nil {
		t.Fatal(err)
	}
	x := over(t, from, "f", to, rooted.Name{}, Options{}, nil)
	if info, err := os.Stat(filepath.Join(to, "f")); err != nil || info.Size() != 100*block+1 || used(t, filepath.Join(to, "f")) > block {
		t.Errorf("a file of holes alone: %v, %v, %+v", info, err, x)
	}
}

func used(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
