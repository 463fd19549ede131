//go:build !386 && !mips && !mipsle && !amd64

package confine

var deniedHere []uint32
