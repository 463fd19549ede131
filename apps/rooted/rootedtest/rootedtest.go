// Package rootedtest gives tests a directory to work in.
package rootedtest

import (
	"testing"

	"ztm/apps/rooted"
)

// Dir opens an empty directory, which goes with the test, and returns its path as well.
func Dir(t testing.TB) (*rooted.Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := rooted.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}
