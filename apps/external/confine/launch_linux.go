package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launch takes the steps of an order and becomes its program.
func launch(args []string) int {
	runtime.LockOSThread() // the steps are of this thread, and it becomes the program
	err := errors.New("no order")
	if len(args) == 1 {
		var o Order
		if err = json.Unmarshal([]byte(args[0]), &o); err == nil {
			err = o.become()
		}
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "not started:", err)
	return statusFailed
}

// become takes all steps. It returns nil after a try alone.
func (o *Order) become() error {
	for _, step := range []struct {
		what string
		do   func(*Order) error
	}{
		{"cgroup", (*Order).enter},
		{"memory", (*Order).goFirst},
		{"processor", (*Order).waitForOthers},
		{"tasks", (*Order).countOthers}, // before the file system, in which there is no list of them
		{"file system", (*Order).ownRoot},
		{"limits", (*Order).limit},
		{"account", (*Order).dropAccount},
		{"end with the agent", (*Order).follow},
		{"no new privileges", (*Order).noNewPrivileges},
		{"Landlock", (*Order).landlock},
		{"system calls", (*Order).filter},
		{"limit of memory", (*Order).limitMemory}, // the last: this program may hold more than its successor may
	} {
		if err := step.do(o); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	if o.Try {
		return nil
	}
	env := append(o.Env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	return &os.PathError{Op: "exec", Path: o.Path, Err: syscall.Exec(o.Path, o.Args, env)}
}

// enter moves this process into its group.
func (o *Order) enter() error {
	if o.Cgroup == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(o.Cgroup, "cgroup.procs"), []byte("0"), 0o600)
}

// goFirst has the kernel end this program before all others where the machine has no memory left:
// the limit is for each process, and an app may have many.
func (o *Order) goFirst() error {
	const first = "1000"
	return os.WriteFile("/proc/self/oom_score_adj", []byte(first), 0)
}

// waitForOthers has the app wait for the processor where all want it. A nice value counts within a
// session alone where the kernel groups tasks by session, and the app has one of its own: the group
// gets the value, too. A kernel that does not group them has no such file, and one where many set
// the value at once may refuse it: the app runs without then.
func (o *Order) waitForOthers() error {
	if o.Try {
		return nil // it would take the turn of an app
	}
	for try := 1; ; try++ {
		err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(niceness)), 0)
		if !errors.Is(err, unix.EAGAIN) || try == groupTries {
			break
		}
		<-time.After(groupTurn)
	}
	return unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
}

const (
	// groupTurn is how often Linux takes one write to the groups of the whole machine from those
	// without CAP_SYS_ADMIN. Others are told to try again.
	groupTurn  = 100 * time.Millisecond
	groupTries = 5
)

// firstFree is the first descriptor that the program does not get: it gets 0 to 2 and the listener.
const firstFree = 4

// limit sets what a process may use, and keeps from it what was inherited.
func (o *Order) limit() error {
	if unix.CloseRange(firstFree, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil { // Linux before 5.11 cannot
		for fd := firstFree; fd < maxDescriptors; fd++ {
			unix.CloseOnExec(fd)
		}
	}
	for which, value := range map[int]int64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxDescriptors} {
		if err := setLimit(which, value); err != nil {
			return err
		}
	}
	return nil
}

func (o *Order) limitMemory() error { return setLimit(unix.RLIMIT_DATA, o.Memory) }

// dropAccount becomes the account of the app, without any capability. The number of processes is
// limited for the account it has then: tasks are counted by account.
func (o *Order) dropAccount() error {
	if o.UID == 0 || o.Means.Root != "root" {
		if err := setLimit(unix.RLIMIT_NPROC, int64(o.Processes)+o.others); err != nil {
			return err
		}
		return dropCapabilities()
	}
	if err := setLimit(unix.RLIMIT_NPROC, int64(o.Processes)); err != nil {
		return err
	}
	id := int(o.UID)
	return errors.Join(syscall.Setgroups(nil), syscall.Setresgid(id, id, id), syscall.Setresuid(id, id, id), dropCapabilities())
}

// lastCapability is the highest number that a capability can have.
const lastCapability = 63

// dropCapabilities takes all capabilities from this thread, and from what it becomes.
func dropCapabilities() error {
	for c := range uintptr(lastCapability + 1) {
		// EINVAL is one that the kernel does not have, EPERM that there is nothing to drop them with.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL && err != unix.EPERM {
			return err
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // Linux before 4.3 has none
	// Root gets all of them back with exec, but for this.
	const noRoot, noRootLocked = 1, 2
	_ = unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|noRootLocked, 0, 0, 0)
	var none [2]unix.CapUserData
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
}

// follow makes the process end with the agent. A change of the account had cleared that.
func (o *Order) follow() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != o.Parent {
		return errors.New("the agent has ended")
	}
	return nil
}

func (o *Order) noNewPrivileges() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// countOthers counts the tasks of the account for which the limit of processes needs room.
func (o *Order) countOthers() error {
	if o.Means.Root != "root" && !(o.Means.Root == "user" && countsApart()) {
		o.others = countTasks(os.Getuid())
	}
	return nil
}

// countsApart reports whether the kernel counts the tasks of a namespace of users by themselves, and
// not with those that the account has outside. Linux does from version 5.14 on.
func countsApart() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	release := append(strings.Split(unix.ByteSliceToString(name.Release[:]), "."), "")
	major, _ := strconv.Atoi(release[0])
	minor, _ := strconv.Atoi(release[1])
	return major > 5 || major == 5 && minor >= 14
}

// countTasks counts the processes and threads of an account, as the kernel does for its limit.
func countTasks(uid int) (n int64) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, name := range names {
		if _, err := strconv.Atoi(name.Name()); err != nil {
			continue
		}
		info, err := name.Info()
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != uid {
			continue
		}
		tasks, err := os.ReadDir("/proc/" + name.Name() + "/task")
		if err == nil {
			n += int64(len(tasks))
		}
	}
	return n
}
