package rooted

import "testing"

func TestTheFlashOfARouterIsKnownByItsFileSystem(t *testing.T) {
	const ext4, tmpfs = 0xef53, 0x01021994
	for _, tt := range []struct {
		name  string
		kind  uint32
		size  uint64
		flash bool
	}{
		{"the root of a router", overlay, 12 << 20, true},
		{"raw flash", jffs2, 12 << 20, true},
		{"raw flash of 4 GB", ubifs, 4 << 30, true},
		{"a container", overlay, 100 << 30, false},
		{"a disk", ext4, 32 << 20, false},
		{"memory", tmpfs, 64 << 20, false},
	} {
		if d := diskAs(tt.kind, tt.size); d.Flash != tt.flash || d.Size != tt.size {
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
}
