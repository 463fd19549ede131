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

func TestWhatIsKeptFreeLeavesRoomOnTheFlashOfARouter(t *testing.T) {
	for size, want := range map[uint64]uint64{0: 0, 8_000_000: 1_000_000, 100_000_000_000: 64_000_000} {
		if got := reserve(size); got != want {
			t.Errorf("of %d bytes %d are kept free, want %d", size, got, want)
		}
	}
}
