package confine

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
)

// asHostile makes the test binary an app that tries everything, and prints what it was answered.
const asHostile = "ZTM_TEST_HOSTILE"

// asMounter makes the test binary a program that changes a mount of its namespace, for [mounts].
const asMounter = "ZTM_TEST_MOUNTER"

func TestMain(m *testing.M) {
	if os.Args[0] == Applet {
		os.Exit(Main(os.Args[1:]))
	}
	if os.Getenv(asHostile) != "" {
		hostile()
		return
	}
	if os.Getenv(asMounter) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(appstest.Run(m))
}

// hostile tries what an app must not, and prints the errors.
func hostile() {
	result := map[string]string{}
	all := attempts()
	for _, name := range slices.SortedFunc(maps.Keys(all), lastForks) {
		try := all[name]
		result[name] = "done"
		if err := try(); err != nil {
			result[name] = errnoName(err)
		}
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

// lastForks puts the attempt that leaves no process for the others behind them.
func lastForks(a, b string) int {
	const forks = "fork without end"
	switch {
	case a == forks:
		return 1
	case b == forks:
		return -1
	}
	return strings.Compare(a, b)
}

// errnoName is the name of the error of the system in an error, or its text.
func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// attempts are all that it tries.
func attempts() map[string]func() error {
	parent := os.Getppid()
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	write := func(path string) func() error {
		return func() error { return os.WriteFile(path, []byte("x"), 0o600) }
	}
	socket := func(family, kind, protocol int) func() error {
		return func() error { _, err := unix.Socket(family, kind, protocol); return err }
	}
	call := func(number uintptr, args ...uintptr) func() error {
		return func() error {
			args := append(args, 0, 0, 0)
			if _, _, errno := unix.Syscall(number, args[0], args[1], args[2]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	dial := func(network, address string) func() error {
		return func() error {
			c, err := net.Dial(network, address)
			if err == nil {
				c.Close()
			}
			return err
		}
	}
	base := os.Getenv("ZTM_TEST_BASE")
	return map[string]func() error{
		"read the agent's database": read(filepath.Join(base, "agent.db")), "read /etc/shadow": read("/etc/shadow"),
		"read a key of the machine":  read("/etc/ssl/private/ssl-cert-snakeoil.key"),
		"read another app's data":    read(filepath.Join(base, "other", "secret")),
		"read the agent's variables": read(fmt.Sprintf("/proc/%d/environ", parent)),
		"read the agent's memory":    read(fmt.Sprintf("/proc/%d/mem", parent)),
		"read its own files":         read(filepath.Join(base, "app", "file")),
		"read where it starts":       read("file"),
		"open the agent to others":   func() error { return os.Chmod(filepath.Join(base, "agent.db"), 0o666) },
		"open itself to others": func() error {
			f, err := os.Open(filepath.Join(base, "app", "file"))
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Chmod(0o666)
		},
		"open the agent by a list":  func() error { return unix.Setxattr(filepath.Join(base, "agent.db"), "user.x", []byte("x"), 0) },
		"write its own files":       write(filepath.Join(base, "app", "file")),
		"write its data":            write(filepath.Join(os.Getenv("ZTM_DATA"), "note")),
		"write to the common place": write(filepath.Join(os.TempDir(), "ztm-hostile")),
		"write to the machine":      write("/usr/ztm-hostile"),
		"connect to its own socket": dial("unix", filepath.Join(base, "sockets", "api")),
		"connect to the agent":      dial("unix", filepath.Join(base, "agent.sock")),
		"connect to a name":         dial("unix", "@ztm-hostile-"+strconv.Itoa(parent)),
		"connect to a port":         dial("tcp", os.Getenv("ZTM_TEST_PORT")),
		"TCP":                       socket(unix.AF_INET, unix.SOCK_STREAM, 0),
		"UDP":                       socket(unix.AF_INET6, unix.SOCK_DGRAM, 0),
		"raw":                       socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"packet":                    socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
		"netlink":                   socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
		"vsock":                     socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		"io_uring":                  call(unix.SYS_IO_URING_SETUP, 1, 0),
		"signal the agent":          func() error { return unix.Kill(parent, 0) },
		"trace the agent":           func() error { return unix.PtraceAttach(parent) },
		"read the agent by process": call(unix.SYS_PROCESS_VM_READV, uintptr(parent)),
		"bpf":                       call(unix.SYS_BPF),
		"keys":                      call(unix.SYS_KEYCTL),
		"a namespace of users":      func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"clone into a namespace":    call(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)),
		"mount":                     func() error { return unix.Mount("none", "/", "tmpfs", 0, "") },
		"chroot":                    func() error { return unix.Chroot("/usr") },
		"leave the session":         func() error { _, err := unix.Setsid(); return err },
		"change the clock":          func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1}) },
		"become root":               func() error { return unix.Setuid(0) },
		"have a capability":         capable,
		"run a program":             func() error { return exec.Command("/bin/true").Run() },
		"a call of tomorrow":        call(4000 + 900),
		"a call in the form of x32": call(x32|unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM),
		"fork without end":          forks,
		"take a gigabyte and a half": func() error {
			_, err := unix.Mmap(-1, 0, 3<<29, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		},
	}
}

// capable fails if it has no capability.
func capable() error {
	var has [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &has[0]); err != nil {
		return err
	}
	for _, c := range has {
		if c.Effective|c.Permitted|c.Inheritable != 0 {
			return nil
		}
	}
	return unix.EPERM
}

// forks starts threads until that fails, or there are far too many.
func forks() error {
	for range 500 {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
	}
	return nil
}

// place makes the directories of an app and of its agent: the app itself is this binary.
func place(t *testing.T) (base string, o Order) {
	t.Helper()
	base, err := os.MkdirTemp("/var/tmp", "ztm-confine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(exe)
	for _, dir := range []string{"app", "data", "sockets", "scratch", "other"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(base, "app", "program"), binary, 0o755), os.Chmod(filepath.Join(base, "app", "program"), 0o755))
	for _, file := range []string{"agent.db", "app/file", "other/secret"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(base, file), []byte("secret"), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	for network, address := range map[string]string{"unix": filepath.Join(base, "sockets", "api"), "unix ": filepath.Join(base, "agent.sock"),
		"unix  ": "@ztm-hostile-" + strconv.Itoa(os.Getpid()), "tcp": "127.0.0.1:0"} {
		l, err := net.Listen(strings.TrimSpace(network), address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if network == "tcp" {
			ports = append(ports, l.Addr().String())
		} else if !strings.HasPrefix(address, "@") {
			os.Chmod(address, 0o666)
		}
	}
	return base, Order{Path: filepath.Join(base, "app", "program"), Args: []string{"program"}, Dir: filepath.Join(base, "app"),
		Env:  []string{asHostile + "=1", "ZTM_TEST_BASE=" + base, "ZTM_TEST_PORT=" + ports[0], "ZTM_DATA=" + filepath.Join(base, "data"), "GODEBUG=netdns=go"},
		Data: filepath.Join(base, "data"), Sockets: filepath.Join(base, "sockets"), Scratch: filepath.Join(base, "scratch"), Memory: 1 << 30, Processes: 64}
}

// output runs an order to its end and returns what it wrote, and how it ended.
func output(t *testing.T, o Order) ([]byte, *os.ProcessState) {
	t.Helper()
	out, err := os.CreateTemp("", "ztm-confine-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := Start(o, []*os.File{null, out, out})
	if err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(-p.Pid, unix.SIGKILL) // what it forked
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return text, state
}

// run runs an order to its end and returns what the app found out.
func run(t *testing.T, o Order) map[string]string {
	t.Helper()
	text, _ := output(t, o)
	result := map[string]string{}
	_, found, _ := strings.Cut("\n"+string(text), "\n{") // a binary with the race detector says more
	if err := json.Unmarshal([]byte("{"+found), &result); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return result
}

// mounts reports whether this account may change mounts in namespaces of its own. Then a program can be held: without this, all
// tests would be skipped where nothing can be any longer by a fault of ours.
func mounts(t *testing.T) bool {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{asMounter + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return cmd.Run() == nil
}

// means lists what this kernel has for this account.
func means(t *testing.T) []Means {
	t.Helper()
	best, err := Find()
	switch {
	case err != nil && mounts(t):
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	case best.Root == "" && mounts(t):
		t.Errorf("%v is not all that holds a program here: it could have a file system of its own", best)
	}
	list := []Means{best}
	if best.Root != "" && best.Landlock > 0 {
		list = append(list, Means{Root: best.Root, Filter: true}, Means{Landlock: best.Landlock, Filter: true, Unbounded: os.Getuid() == 0})
	}
	return list
}

func TestAnAppDoesWhatItWasAllowedAndNothingElse(t *testing.T) {
	for _, m := range means(t) {
		t.Run(m.String(), func(t *testing.T) {
			base, o := place(t)
			o.Means = m
			if m.Root == "root" {
				o.UID = Account(rand.Text(), "a/b") // no other test has it
				if err := os.Chown(o.Data, int(o.UID), int(o.UID)); err != nil {
					t.Fatal(err)
				}
			}
			for name, got := range run(t, o) {
				if !asItShould(m, name, got) {
					t.Errorf("%s: %s", name, got)
				}
			}
			if b, err := os.ReadFile(filepath.Join(base, "app", "file")); string(b) != "secret" {
				t.Errorf("its own files were written: %q, %v", b, err)
			}
		})
	}
}

// asItShould reports whether an attempt went as it should under some means.
func asItShould(m Means, name, got string) bool {
	switch name {
	case "read its own files", "read where it starts", "write its data", "connect to its own socket":
		return got == "done"
	case "connect to the agent": // before version 9 of Landlock: the agent asks for a token
		return got != "done" || m.Root == "" && m.Landlock < 9
	case "connect to a name":
		return got != "done" || m.Landlock < 6 && !m.Network
	case "signal the agent":
		return got != "done" || m.Landlock < 6 && m.Root != "root"
	case "run a program":
		return got != "done" || m.Landlock == 0
	case "become root": // that is no power without capabilities
		return got != "done" || os.Getuid() == 0 && m.Root == ""
	case "fork without end":
		return got == "EAGAIN" || m.Unbounded
	case "a call of tomorrow":
		return got == "ENOSYS"
	case "a call in the form of x32":
		return got != "done"
	case "TCP", "UDP", "raw", "packet", "netlink", "vsock", "io_uring", "trace the agent", "read the agent by process", "bpf", "keys",
		"a namespace of users", "clone into a namespace", "mount", "chroot", "leave the session", "change the clock":
		return got == "EPERM"
	}
	return got != "done"
}

func TestAStepThatFailsEndsTheStart(t *testing.T) {
	base, o := place(t)
	o.Means, o.Cgroup = means(t)[0], filepath.Join(base, "none")
	if text, state := output(t, o); state.ExitCode() != statusFailed || strings.Contains(string(text), "{") {
		t.Errorf("%v: %s", state, text)
	}
}

func TestAnAppMayUseTheNetworkAndProgramsIfItWasAllowedTo(t *testing.T) {
	for _, m := range means(t) {
		t.Run(m.String(), func(t *testing.T) {
			_, o := place(t)
			o.Means, o.Net, o.Exec = m, true, true
			result := run(t, o)
			for name, want := range map[string]string{"TCP": "done", "UDP": "done", "netlink": "done", "raw": "EPERM", "packet": "EPERM",
				"connect to a port": "done", "run a program": "done"} {
				if result[name] != want {
					t.Errorf("%s: %s, want %s", name, result[name], want)
				}
			}
		})
	}
}

func TestWhatHoldsForRootHoldsForAUserAsWell(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests are those of a user")
	}
	dir, err := os.MkdirTemp("/var/tmp", "ztm-confine-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary, err := os.ReadFile("/proc/self/exe")
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "test"), binary, 0o755), os.Chmod(dir, 0o777), os.Chmod(filepath.Join(dir, "test"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=TestAnApp")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir}
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheFilterKnowsTheArchitectureOfThisBinary(t *testing.T) {
	if architectures[runtime.GOARCH] == 0 {
		t.Skip("apps are not confined on " + runtime.GOARCH)
	}
	if n := len((&Order{Net: true}).newFilter()); n > 4096 {
		t.Errorf("the filter has %d instructions", n)
	}
}

func TestALauncherEntersTheGroupThatWasMade(t *testing.T) {
	dir := t.TempDir()
	if err := (&Order{Cgroup: dir}).enter(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || string(got) != "0" {
		t.Errorf("it writes %q, %v", got, err)
	}
	if err := new(Order).enter(); err != nil {
		t.Errorf("without a group: %v", err)
	}
	if err := (&Order{Cgroup: filepath.Join(dir, "none")}).enter(); err == nil {
		t.Error("it does not miss a group that is not there")
	}
}
