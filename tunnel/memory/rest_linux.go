package memory

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is at rest when it has used less than quiet of processor time within watched, or less than a
// part of the busiest such time before: a hub with thousands of agents is never quiet, and their
// handshakes are over. The first rest follows the start.
const (
	watched = 15 * time.Second
	quiet   = 50 * time.Millisecond
	part    = 10
)

// GiveBack returns memory to the system each time the process comes to rest, until ctx ends: what
// its heap has in reserve, and the pages of its program. Of those the start needs nearly all, 14 MB
// in the full profile, and an agent at rest one; they would stay mapped, and the system takes
// mapped pages last.
func GiveBack(ctx context.Context) {
	tick := time.NewTicker(watched)
	defer tick.Stop()
	for w := (watch{before: used()}); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.comesToRest(used()) {
			runtime.GC() // empties the pools with the next one
			debug.FreeOSMemory()
			forget()
			w.before = used()
		}
	}
}

// watch finds out when a process comes to rest.
type watch struct {
	before  time.Duration // processor time, when it was looked at last
	busiest time.Duration // since the last rest
	rests   bool
}

// comesToRest is told the processor time that was used until now, each time that watched is over.
func (w *watch) comesToRest(now time.Duration) bool {
	spent := now - w.before
	w.before = now
	rested := w.rests
	w.rests = spent < max(quiet, w.busiest/part)
	if w.busiest = max(w.busiest, spent); w.rests {
		w.busiest = 0
	}
	return w.rests && !rested
}

// used is the processor time of this process.
func used() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// forget unmaps the pages of this program's code and constants. They are the file's, so nothing is
// lost: those that are wanted again come back one by one. An error leaves things as they are.
func forget() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range constants(maps, program) {
		unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// constants finds the mappings of a program that are as they are in its file: nobody may write to
// them, and nobody has, as a dynamic linker does before it takes the permission away. Each mapping
// has a head and a line for each kind of page (proc_pid_smaps(5)):
//
//	00400000-00cb9000 r-xp 00000000 fe:00 1234   /usr/bin/ztm
//	Anonymous:             0 kB
func constants(maps []byte, program string) (found []mapping) {
	candidate := false
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 6 && !strings.HasSuffix(f[0], ":"):
			from, to, _ := strings.Cut(f[0], "-")
			low, err1 := strconv.ParseUint(from, 16, strconv.IntSize)
			high, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
			readOnly := strings.HasPrefix(f[1], "r-")
			if candidate = err1 == nil && err2 == nil && low < high && readOnly && strings.Join(f[5:], " ") == program; candidate {
				found = append(found, mapping{uintptr(low), uintptr(high)})
			}
		case candidate && len(f) == 3 && f[1] != "0" && (f[0] == "Anonymous:" || f[0] == "Swap:"):
			found, candidate = found[:len(found)-1], false
		}
	}
	return found
}
