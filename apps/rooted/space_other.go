//go:build !(linux || darwin || freebsd)

package rooted

// free does not know.
func free(uintptr) (uint64, bool) { return 0, false }
