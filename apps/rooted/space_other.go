//go:build !(linux || darwin || freebsd)

package rooted

// free does not know.
func free(uintptr) (left, size uint64, known bool) { return 0, 0, false }
