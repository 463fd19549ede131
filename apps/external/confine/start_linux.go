package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// start starts this binary again, as what becomes the program.
func start(o Order, files []*os.File) (*os.Process, error) {
	o.Parent = os.Getpid()
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	attr := &os.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: files, Sys: &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL,
	}}
	if o.Means.Root != "" {
		attr.Sys.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC
		if o.Means.Network && !o.Net {
			attr.Sys.Cloneflags |= syscall.CLONE_NEWNET
		}
	}
	if o.Means.Root == "user" {
		attr.Sys.Cloneflags |= syscall.CLONE_NEWUSER
		attr.Sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		attr.Sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		// Exec leaves an account that is not root without what the namespace gave it: see capabilities(7).
		attr.Sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return os.StartProcess("/proc/self/exe", []string{Applet, string(text)}, attr)
}

// find tries what holds most first.
func find() (Means, error) {
	if os.Getenv("ANDROID_ROOT") != "" {
		return Means{}, fmt.Errorf("%w: Android kills programs that ask for it", ErrUnable)
	}
	root := "user"
	if os.Getuid() == 0 {
		root = "root"
	}
	abi := landlockVersion()
	var why error
	for _, m := range []Means{
		{Root: root, Network: true, Landlock: abi, Filter: true},
		{Root: root, Landlock: abi, Filter: true},
		{Landlock: abi, Filter: true, Unbounded: root == "root"},
	} {
		if !m.Holds() {
			continue
		}
		err := try(m)
		if err == nil {
			return m, nil
		}
		if tried := fmt.Errorf("%v: %w", m, err); why == nil {
			why = tried
		} else {
			why = fmt.Errorf("%w; %w", why, tried) // in one line: tables show it
		}
	}
	if why == nil {
		why = errors.New("the kernel has neither namespaces that this account may use nor a Landlock that holds it")
	}
	return Means{}, fmt.Errorf("%w: %w", ErrUnable, why)
}

// manyTasks is more than all tries of the machine's agents can have at the same time: they have one
// account.
const manyTasks = 4096

// try takes all steps with some means.
func try(m Means) error {
	dir, err := os.MkdirTemp("", "ztm-try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	o := Order{Path: "/", Args: []string{"/"}, Dir: "/usr", Data: filepath.Join(dir, "data"), Sockets: filepath.Join(dir, "sockets"),
		Scratch: filepath.Join(dir, "scratch"), Memory: 1 << 30, Processes: manyTasks, Means: m, Try: true}
	if err := errors.Join(os.Mkdir(o.Data, 0o700), os.Mkdir(o.Sockets, 0o700), os.Mkdir(o.Scratch, 0o700)); err != nil {
		return err
	}
	if m.Root == "root" {
		o.UID = firstAccount
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := start(o, []*os.File{null, w, w})
	if err != nil {
		return err
	}
	w.Close()
	const maxText = 4096 // bytes; a launcher that fails says one line
	text, _ := io.ReadAll(io.LimitReader(r, maxText))
	state, err := p.Wait()
	if err != nil {
		return err
	}
	if !state.Success() {
		return errors.New(strings.TrimSpace(string(text)))
	}
	return nil
}
