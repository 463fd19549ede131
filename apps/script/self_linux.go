//go:build !ztm_router && !ztm_omit_js

package script

import "golang.org/x/sys/unix"

// self returns the path of this binary. It may have been replaced or removed since it was started:
// this one is there.
func self() (string, error) { return "/proc/self/exe", nil }

// shut keeps the descriptor that the script was read from to this process.
func shut(file string) {
	if file == inMemory {
		unix.CloseOnExec(inMemoryFD)
	}
}
