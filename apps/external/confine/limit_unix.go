//go:build linux || darwin

package confine

// limit is the type of a limit of a process.
type limit = uint64
