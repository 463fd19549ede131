//go:build arm64 || loong64 || riscv64

package confine

var changesModeHere []uint32
