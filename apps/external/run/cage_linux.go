package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ztm/apps/external/manifest"
	"ztm/tunnel/pause"
)

// Where the agent was given a part of the tree of cgroups (version 2), the kernel limits what all
// processes of an app have together:
//
//	the unit of the agent, delegated, without processes -> agent, in which it runs (DelegateSubgroup= of systemd)
//	                                                     -> app-PID-RANDOM, for each start of an app: memory.max, pids.max
//
// The agent moves nothing but its apps, and makes nothing outside. Without such a part it counts by itself,
// which it does in any case.

const (
	cgroups   = "/sys/fs/cgroup"
	ownCgroup = "/proc/self/cgroup"

	// launching is how many threads the launcher may have beside what the program may.
	launching = 16
)

// delegated reports whether systemd says that a directory of cgroups is the service's own.
func delegated(dir string) bool {
	one := make([]byte, 1)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, one); err == nil && n == 1 && one[0] == '1' {
			return true
		}
	}
	return false
}

// given returns the directory in which the agent may make groups, "" for none. root is where the tree
// is, own the file that says where the agent is in it.
func given(root, own string, delegated func(dir string) bool) string {
	text, err := os.ReadFile(own)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		at, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		if !ok || at == "" {
			continue
		}
		dir := filepath.Join(root, filepath.Dir(filepath.Join("/", at)))
		if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(bytes.TrimSpace(procs)) > 0 || !delegated(dir) {
			return ""
		}
		if os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids"), 0o600) != nil {
			return ""
		}
		left, err := filepath.Glob(filepath.Join(dir, "app-*"))
		if err == nil {
			for _, old := range left {
				if !strings.HasPrefix(filepath.Base(old), groupPrefix()) { // nobody may be in it yet
					os.Remove(old) // of an agent that was killed; one with processes stays
				}
			}
		}
		return dir
	}
	return ""
}

// groupPrefix begins the names of the groups of this agent, whatever the mesh of the app.
func groupPrefix() string { return fmt.Sprintf("app-%d-", os.Getpid()) }

// newCage makes a group below dir. Without one the agent counts alone: "" is no failure.
func newCage(dir string, rights manifest.Rights) string {
	if dir == "" {
		return ""
	}
	cage := filepath.Join(dir, groupPrefix()+strings.ToLower(rand.Text()))
	if os.Mkdir(cage, 0o700) != nil {
		return ""
	}
	set := func(file string, value int64) error {
		return os.WriteFile(filepath.Join(cage, file), []byte(strconv.FormatInt(value, 10)), 0o600)
	}
	err := errors.Join(set("memory.max", together*rights.MemoryLimit()), set("memory.oom.group", 1), set("pids.max", int64(rights.ProcessLimit()+launching)))
	if err != nil {
		os.Remove(cage)
		return ""
	}
	set("memory.swap.max", 0) // a kernel without swap has no such file
	return cage
}

// closeCage removes the group of a program that has ended, and says why the kernel killed it, "" if it
// did not.
func closeCage(cage string, rights manifest.Rights) (why string) {
	if cage == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(cage, "memory.events"))
	if err == nil {
		switch {
		case counted(text, "oom_kill") == 0:
		case counted(text, "oom") == 0: // it was the limit of the unit, or of the machine
			why = "the kernel ended it where memory was short"
		default:
			why = fmt.Sprintf("its processes held more than %d MB together", together*rights.MemoryLimit()/1e6)
		}
	}
	removeCage(cage)
	return why
}

// counted returns a number of a file of events, 0 for one that is not there.
func counted(events []byte, key string) (n int64) {
	for line := range strings.Lines(string(events)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+" "); ok {
			n, _ = strconv.ParseInt(value, 10, 64) // the kernel writes numbers
		}
	}
	return n
}

// removeCage removes a group and ends all that is in it: what has left the session of the program,
// too. Linux before 5.14 cannot end it: the group stays then until the agent starts again.
func removeCage(cage string) {
	kill, err := os.OpenFile(filepath.Join(cage, "cgroup.kill"), os.O_WRONLY, 0)
	if err == nil {
		_, err = kill.WriteString("1")
		kill.Close()
	}
	remove := func() error { return os.Remove(cage) }
	if err != nil {
		remove()
		return
	}
	untilEmpty(remove)
}

// emptying is how long a group whose processes were killed may have some.
const emptying = 2 * time.Second

// untilEmpty removes a group as soon as nothing is in it.
func untilEmpty(remove func() error) {
	ctx, cancel := context.WithTimeout(context.Background(), emptying)
	defer cancel()
	for errors.Is(remove(), unix.EBUSY) && pause.For(ctx, 10*time.Millisecond) {
	}
}
