//go:build !arm64 && !loong64 && !riscv64

package confine

import "golang.org/x/sys/unix"

var changesModeHere = []uint32{unix.SYS_CHMOD}
