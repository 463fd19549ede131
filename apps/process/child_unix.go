//go:build unix

package process

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ztm/apps/process/session"
)

// child is a started program, the leader of its own session. It stays a zombie until reap, so that
// its process ID is not given to another process.
type child struct {
	process *os.Process
	tty     bool
	in      *os.File // the terminal's master, or a pipe
	out     *output
	err     *output // nil with a terminal
	wait    func() (*os.ProcessState, error)
}

func start(p Program) (*child, error) {
	defer p.closeFiles()
	keepInherited()
	c, far, err := streams(p)
	if err != nil {
		return nil, notStarted(p, err)
	}
	attr := &os.ProcAttr{Dir: p.Dir, Env: p.Env, Files: append(far, p.Files...), Sys: &syscall.SysProcAttr{
		Setsid: true, Setctty: p.TTY != nil, Credential: p.Account.credential()}}
	c.process, err = os.StartProcess(p.Path, p.Args, attr)
	if err != nil && p.Dir != "/" { // the account may not enter its home
		attr.Dir = "/"
		c.process, err = os.StartProcess(p.Path, p.Args, attr)
	}
	for _, f := range far {
		f.Close()
	}
	if err != nil {
		c.close()
		return nil, notStarted(p, err)
	}
	c.wait = sync.OnceValues(c.process.Wait)
	return c, nil
}

// keepInherited closes on exec what this process itself inherited. All descriptors that Go opens
// have that flag already. Inherited descriptors have low numbers.
func keepInherited() {
	for fd := 3; fd < 1024; fd++ {
		unix.CloseOnExec(fd)
	}
}

// streams makes the child's streams and returns, beside its near ends, stdin, stdout and stderr for
// the program.
func streams(p Program) (c *child, far []*os.File, err error) {
	if p.TTY != nil {
		master, slave, err := openTerminal(p.Account, *p.TTY)
		if err != nil {
			return nil, nil, err
		}
		return &child{tty: true, in: master, out: &output{f: master}}, []*os.File{slave, slave, slave}, nil
	}
	var r, w [3]*os.File
	for i := range r {
		if r[i], w[i], err = os.Pipe(); err != nil {
			for j := range i {
				r[j].Close()
				w[j].Close()
			}
			return nil, nil, err
		}
	}
	return &child{in: w[0], out: &output{f: r[1]}, err: &output{f: r[2]}}, []*os.File{r[0], w[1], w[2]}, nil
}

// openTerminal opens a terminal that belongs to the account, as login(1) does.
func openTerminal(a *Account, size Size) (master, slave *os.File, err error) {
	master, slave, err = openPTY()
	if err != nil {
		return nil, nil, err
	}
	if a.other {
		err = slave.Chown(int(a.uid), -1)
	}
	if err == nil {
		err = setSize(master, size)
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

func setSize(master *os.File, s Size) error {
	return control(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	})
}

// control calls do with f's descriptor, which stays valid meanwhile.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

func (c *child) resize(s Size) error { return setSize(c.in, s) }

var signals = map[string]unix.Signal{
	"HUP": unix.SIGHUP, "INT": unix.SIGINT, "QUIT": unix.SIGQUIT, "KILL": unix.SIGKILL, "TERM": unix.SIGTERM,
	"USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2, "TSTP": unix.SIGTSTP, "CONT": unix.SIGCONT,
}

// signal sends a signal to the foreground. It is no error if the program has just ended.
func (c *child) signal(name string) error {
	sig, ok := signals[name]
	if !ok {
		return errors.New("unknown signal")
	}
	group := c.process.Pid
	if c.tty {
		control(c.in, func(fd int) (err error) {
			if g, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && g > 1 {
				group = g
			}
			return nil
		})
	}
	unix.Kill(-group, sig)
	return nil
}

// hangup sends SIGHUP to every process of the session, and SIGCONT to wake those that are stopped.
func (c *child) hangup() {
	for _, pid := range c.members() {
		unix.Kill(pid, unix.SIGHUP)
		unix.Kill(pid, unix.SIGCONT)
	}
}

// alive reports whether any process of the session runs.
func (c *child) alive() bool { return len(c.members()) > 0 }

// kill ends every process of the session. A process that is being forked is found in the next
// round: its parent has died, so each round finds fewer.
func (c *child) kill() {
	for range 100 {
		pids := c.members()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// members returns the processes of the session, or its first group if they cannot be listed.
func (c *child) members() []int {
	pids, err := session.Members(c.process.Pid)
	if err != nil && unix.Kill(-c.process.Pid, 0) == nil {
		return []int{-c.process.Pid}
	}
	return pids
}

// drain ends the outputs after the bytes that the program has written so far.
func (c *child) drain() {
	c.out.drain()
	if c.err != nil {
		c.err.drain()
	}
}

// reap collects the zombie and returns how the program ended.
func (c *child) reap() Exit {
	st, err := c.wait()
	if err != nil {
		return Exit{Status: 255, Reason: "its exit status is unknown"}
	}
	ws := st.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return Exit{Status: 128 + int(ws.Signal()), Signal: signalName(ws.Signal())}
	}
	return Exit{Status: ws.ExitStatus()}
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); len(name) > 3 {
		return name[3:]
	}
	return s.String()
}

// close closes what is left of the streams.
func (c *child) close() {
	c.in.Close()
	c.out.f.Close()
	if c.err != nil {
		c.err.f.Close()
	}
}

// output is what a program writes. After drain a read that would block returns io.EOF.
type output struct {
	f        *os.File
	draining atomic.Bool
}

func (o *output) drain() {
	o.draining.Store(true)
	o.f.SetReadDeadline(time.Unix(1, 0)) // wakes a Read; a file without deadlines ends by itself, see openPTY
}

func (o *output) Read(p []byte) (int, error) {
	for {
		if o.draining.Load() {
			return o.readNow(p)
		}
		n, err := o.f.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, end(err)
		}
	}
}

// readNow reads without waiting.
func (o *output) readNow(p []byte) (n int, err error) {
	raw, err := o.f.SyscallConn()
	if err != nil {
		return 0, io.EOF
	}
	for {
		o.f.SetReadDeadline(time.Time{})
		failed := raw.Read(func(fd uintptr) bool {
			for {
				if n, err = unix.Read(int(fd), p); err != unix.EINTR {
					return true
				}
			}
		})
		switch {
		case errors.Is(failed, os.ErrDeadlineExceeded): // drain was just setting it
		case failed != nil || err != nil || n <= 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// end returns io.EOF for EIO, with which Linux ends a terminal.
func end(err error) error {
	if errors.Is(err, unix.EIO) {
		return io.EOF
	}
	return err
}
