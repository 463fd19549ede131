package rooted

import "golang.org/x/sys/unix"

// File systems of flash without a disk behind it: see <linux/magic.h>.
const (
	jffs2   = 0x72b6
	ubifs   = 0x24051905
	overlay = 0x794c7630 // of a router's root, and of a container's
)

// flashMost is how much flash a router may have, in bytes. An overlay of more is on a disk.
const flashMost = 1 << 30

func diskOf(fd uintptr) Disk {
	var st unix.Statfs_t
	if unix.Fstatfs(int(fd), &st) != nil {
		return Disk{}
	}
	return diskAs(uint32(st.Type), uint64(st.Blocks)*uint64(st.Bsize))
}

func diskAs(kind uint32, size uint64) Disk {
	return Disk{Flash: kind == jffs2 || kind == ubifs || kind == overlay && size <= flashMost, Size: size}
}
