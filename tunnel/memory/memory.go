// Package memory finds out how much memory this process may use and makes the best of it: on a
// router with 64 MB, buffers that a server never notices are what the others on the device miss.
//
//	/proc/meminfo, the limits of its cgroups -> [Of] -> [Limit.Small]: windows of tunnel/h2
//	                                                 -> [Limit.Tune]: the garbage collector
//	the processor time it uses -> [GiveBack]: what it does not need while it is at rest
//
// Where nothing is known a machine is taken for a large one.
package memory

import (
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// small is the size below which memory is scarce, in bytes: such devices have no room for buffers
// that wait for better days.
const small = 256 << 20

// Limit is how much memory a process may use. The zero value is unknown, and not small.
type Limit struct {
	Bytes int64 // of the machine or of the narrowest cgroup; 0 is unknown
	Group bool  // a cgroup sets it, which kills who exceeds it
}

// Here is the limit of this process, as it was at the first call.
var Here = sync.OnceValue(here)

// Small reports whether buffers should be kept small.
func (l Limit) Small() bool { return l.Bytes > 0 && l.Bytes < small }

// Fit returns how many things of a size in bytes fit into a part of the memory, 2 being half of it,
// but at most most and at least 16, or most where that is fewer. Where nothing is known it is most.
func (l Limit) Fit(most int, part, size int64) int {
	if l.Bytes == 0 {
		return most
	}
	return int(min(int64(most), max(l.Bytes/part/size, 16)))
}

// Tune sets how the garbage collector works: on small machines it works harder, in a cgroup it
// knows where the end is. What GOGC and GOMEMLIMIT say has precedence. It is called once, by a
// process that stays.
func (l Limit) Tune(getenv func(string) string) {
	percent, limit := l.collector()
	if getenv("GOGC") == "" && percent != 0 {
		debug.SetGCPercent(percent)
	}
	if getenv("GOMEMLIMIT") == "" && limit != 0 {
		debug.SetMemoryLimit(limit)
	}
}

// The soft limit of a small machine, in bytes: never so low that the collector would run all the
// time, as the live heap of an idle agent is 3 MB; never more than what it needs under load.
const (
	lowest  = 16 << 20
	highest = 48 << 20
)

// collector returns the settings of the garbage collector; 0 leaves one as it is.
func (l Limit) collector() (percent int, limit int64) {
	switch {
	case l.Small():
		return 50, min(max(l.Bytes/4, lowest), highest)
	case l.Group && l.Bytes > 0:
		return 0, l.Bytes / 10 * 8
	}
	return 0, 0
}

// Of reads the limit from the files of a Linux system: root is its "/".
func Of(root fs.FS) Limit {
	var l Limit
	if text, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		l.Bytes = total(string(text))
	}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return l
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max" // version 2: "0::/path"
		if f[0] != "0" || f[1] != "" {
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes" // version 1: "4:memory:/path"
			if f[1] != "memory" {
				continue
			}
		}
		// A group is limited by those above it as well. In a container its own is the root.
		for dir := path.Clean("/" + f[2]); ; dir = path.Dir(dir) {
			l.narrow(root, path.Join(mount, dir, file))
			if dir == "/" {
				break
			}
		}
	}
	return l
}

// narrow lowers the limit to that of a file, if it says one. Version 1 says a number near the end
// of all numbers if there is none.
func (l *Limit) narrow(root fs.FS, name string) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
	if err != nil || n <= 0 || n > math.MaxInt64/2 || l.Bytes > 0 && n >= l.Bytes {
		return
	}
	l.Bytes, l.Group = n, true
}

// total returns MemTotal of /proc/meminfo in bytes, or 0.
func total(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil && n > 0 && n < math.MaxInt64/1024 {
				return n * 1024
			}
		}
	}
	return 0
}
