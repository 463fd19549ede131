package process

import (
	"errors"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// child is a program that was started in a job object, which ends with it.
type child struct {
	process windows.Handle
	job     windows.Handle
	tty     bool
	in      *os.File
	out     *output
	err     *output // nil with a terminal
	console *console
}

func start(p Program) (*child, error) {
	p.closeFiles()
	c, far, err := streams(p)
	if err != nil {
		return nil, notStarted(p, err)
	}
	err = c.create(p, far)
	for _, f := range far {
		f.Close()
	}
	if err != nil {
		c.drain()
		c.close()
		return nil, notStarted(p, err)
	}
	return c, nil
}

// streams makes the child's streams and returns, beside its near ends, those for the program:
// stdin, stdout and stderr, or those of its console.
func streams(p Program) (c *child, far []*os.File, err error) {
	n := 3
	if p.TTY != nil {
		n = 2
	}
	var r, w [3]*os.File
	fail := func() {
		for i := range n {
			r[i].Close() // the error of a nil file is ignored
			w[i].Close()
		}
	}
	for i := range n {
		if r[i], w[i], err = os.Pipe(); err != nil {
			fail()
			return nil, nil, err
		}
	}
	c = &child{tty: p.TTY != nil, in: w[0], out: &output{f: r[1]}}
	if !c.tty {
		c.err = &output{f: r[2]}
		return c, []*os.File{r[0], w[1], w[2]}, nil
	}
	if c.console, err = newConsole(*p.TTY, r[0], w[1]); err != nil {
		fail()
		return nil, nil, err
	}
	return c, []*os.File{r[0], w[1]}, nil
}

// create starts the program suspended and resumes it in its job, so that nothing it starts is
// outside.
func (c *child) create(p Program, far []*os.File) error {
	var err error
	if c.job, err = newJob(); err != nil {
		return err
	}
	list, err := windows.NewProcThreadAttributeList(1)
	if err != nil {
		return err
	}
	defer list.Delete()
	si := &windows.StartupInfoEx{ProcThreadAttributeList: list.List()}
	si.Cb = uint32(unsafe.Sizeof(*si))
	si.Flags = windows.STARTF_USESTDHANDLES // with a console: none, and not those of the agent
	flags := uint32(windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT | windows.CREATE_SUSPENDED)
	handles := make([]windows.Handle, len(far))
	if c.tty {
		err = list.Update(windows.PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE, c.console.pointer(), unsafe.Sizeof(c.console.handle))
	} else {
		flags |= windows.CREATE_NO_WINDOW
		for i, f := range far {
			handles[i] = windows.Handle(f.Fd())
			windows.SetHandleInformation(handles[i], windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT)
		}
		si.StdInput, si.StdOutput, si.StdErr = handles[0], handles[1], handles[2]
		err = list.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&handles[0]),
			uintptr(len(handles))*unsafe.Sizeof(handles[0]))
	}
	if err != nil {
		return err
	}
	var pi windows.ProcessInformation
	if err := createProcess(p, !c.tty, flags, si, &pi); err != nil {
		return &os.PathError{Op: "start", Path: p.Path, Err: err}
	}
	defer windows.CloseHandle(pi.Thread)
	c.process = pi.Process
	if err := windows.AssignProcessToJobObject(c.job, pi.Process); err != nil {
		windows.TerminateProcess(pi.Process, 1)
		return err
	}
	_, err = windows.ResumeThread(pi.Thread)
	return err
}

func createProcess(p Program, inherit bool, flags uint32, si *windows.StartupInfoEx, pi *windows.ProcessInformation) error {
	path, err := windows.UTF16PtrFromString(p.Path)
	if err != nil {
		return err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(p.Args))
	if err != nil {
		return err
	}
	dir, err := windows.UTF16PtrFromString(p.Dir)
	if err != nil {
		return err
	}
	return windows.CreateProcess(path, line, nil, nil, inherit, flags, environment(p.Env), dir, &si.StartupInfo, pi)
}

// environment returns an environment block: strings that end with a zero, and another zero.
func environment(env []string) *uint16 {
	var block []uint16
	for _, kv := range env {
		if text, err := windows.UTF16FromString(kv); err == nil { // else it has a zero
			block = append(block, text...)
		}
	}
	block = append(block, 0, 0)
	return &block[0]
}

// newJob makes a job that kills what is in it when it is closed, even by the end of the agent.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err != nil {
		windows.CloseHandle(job)
		return 0, err
	}
	return job, nil
}

func (c *child) resize(s Size) error { return windows.ResizePseudoConsole(c.console.handle, s.coord()) }

// The status of a program that is ended by us, as a shell elsewhere has it.
var statuses = map[string]uint32{"HUP": 129, "INT": 130, "QUIT": 131, "KILL": 137, "TERM": 143}

// signal types Ctrl-C on a terminal. There are no signals otherwise: those that end a program end
// the job.
func (c *child) signal(name string) error {
	if c.tty && name == "INT" {
		_, err := c.in.Write([]byte{0x03})
		return err
	}
	if status, ok := statuses[name]; ok {
		windows.TerminateJobObject(c.job, status)
	}
	return nil
}

// hangup closes the console, which notifies its programs. Without a console it ends the job.
func (c *child) hangup() {
	if !c.tty {
		windows.TerminateJobObject(c.job, statuses["HUP"])
	}
	c.drain()
}

// accounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION.
type accounting struct {
	userTime, kernelTime, periodUserTime, periodKernelTime int64
	pageFaults, total, active, terminated                  uint32
}

// alive reports whether any process of the job runs.
func (c *child) alive() bool {
	var a accounting
	err := windows.QueryInformationJobObject(c.job, windows.JobObjectBasicAccountingInformation,
		uintptr(unsafe.Pointer(&a)), uint32(unsafe.Sizeof(a)), nil)
	return err == nil && a.active > 0
}

func (c *child) kill() { windows.TerminateJobObject(c.job, statuses["KILL"]) }

// exited waits until the program has ended.
func (c *child) exited() { windows.WaitForSingleObject(c.process, windows.INFINITE) }

// drain ends the output of a console after its last byte. Pipes end with the job.
func (c *child) drain() {
	if c.console != nil {
		c.console.close()
	}
}

// reap returns how the program ended, and ends what it left running.
func (c *child) reap() Exit {
	var code uint32
	err := windows.GetExitCodeProcess(c.process, &code)
	c.kill()
	switch {
	case err != nil:
		return Exit{Status: 255, Reason: "its exit status is unknown"}
	case code == uint32(windows.STATUS_CONTROL_C_EXIT):
		return Exit{Status: 130, Signal: "INT"}
	}
	for name, status := range statuses {
		if code == status {
			return Exit{Status: int(code), Signal: name}
		}
	}
	return Exit{Status: int(code)}
}

// close closes what is left of the handles.
func (c *child) close() {
	c.in.Close()
	c.out.f.Close()
	if c.err != nil {
		c.err.f.Close()
	}
	windows.CloseHandle(c.process)
	windows.CloseHandle(c.job)
}

// output is what a program writes.
type output struct{ f *os.File }

func (o *output) Read(p []byte) (int, error) {
	n, err := o.f.Read(p)
	if errors.Is(err, windows.ERROR_BROKEN_PIPE) {
		err = io.EOF
	}
	return n, err
}

// console is a pseudo console (ConPTY): Windows 10 1809 and later.
type console struct {
	handle windows.Handle
	once   sync.Once
}

func newConsole(s Size, in, out *os.File) (*console, error) {
	if err := windows.NewLazySystemDLL("kernel32.dll").NewProc("CreatePseudoConsole").Find(); err != nil {
		return nil, errors.New("this Windows has no pseudo consoles: a command without a terminal may do")
	}
	c := &console{}
	err := windows.CreatePseudoConsole(s.coord(), windows.Handle(in.Fd()), windows.Handle(out.Fd()), 0, &c.handle)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// pointer returns the handle as the attribute list wants it: as if it were an address.
func (c *console) pointer() unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&c.handle)) }

// close is called while the output is being read: older versions of Windows wait for that.
func (c *console) close() { c.once.Do(func() { windows.ClosePseudoConsole(c.handle) }) }

func (s Size) coord() windows.Coord { return windows.Coord{X: int16(s.Cols), Y: int16(s.Rows)} }
