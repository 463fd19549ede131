//go:build darwin || freebsd

package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// launch sets the limits of an order and becomes its program. They are no fence: a program may do what
// the account may. FreeBSD counts for the limit of data what brk(2) gives alone, and macOS counts nothing
// for it.
func launch(args []string) int {
	err := errors.New("no order")
	if len(args) == 1 {
		var o Order
		if err = json.Unmarshal([]byte(args[0]), &o); err == nil {
			err = o.become()
		}
	}
	fmt.Fprintln(os.Stderr, "not started:", err)
	return statusFailed
}

// become returns why the program was not started.
func (o *Order) become() error {
	for which, value := range map[int]int64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxDescriptors, unix.RLIMIT_DATA: o.Memory} {
		if err := setLimit(which, value); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, niceness); err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	env := append(o.Env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	return &os.PathError{Op: "exec", Path: o.Path, Err: syscall.Exec(o.Path, o.Args, env)}
}
