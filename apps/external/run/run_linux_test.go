package run

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
	"ztm/apps/external/confine"
	"ztm/apps/external/manifest"
	"ztm/apps/process/session"
)

// asAgent makes the test binary an agent that runs one app and waits to be killed.
const asAgent = "ZTM_TEST_AGENT"

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == confine.Applet:
		os.Exit(confine.Main(os.Args[1:]))
	case os.Args[0] == WardenApplet:
		os.Exit(Warden(os.Stdin))
	case os.Getenv("LISTEN_FDNAMES") == "ztm":
		os.Exit(app(os.Args[1]))
	}
	os.Exit(appstest.Run(m))
}

// app is what the test binary does as an app.
func app(what string) int {
	switch what {
	case "crash":
		fmt.Println("a first word\nthe last word \x1b[2J")
		return 3
	case "flood":
		go func() { // ends with the process
			line := strings.Repeat("x", 4000) + "\n"
			for {
				fmt.Print(line)
			}
		}()
	case "allocate":
		go func() { // ends with the process
			var all [][]byte
			for range 4 << 10 {
				b := make([]byte, 1<<20)
				for i := 0; i < len(b); i += os.Getpagesize() {
					b[i] = 1
				}
				all = append(all, b)
			}
			fmt.Println(len(all))
		}()
	case "litter":
		go func() { // ends with the process
			for i := 0; ; i++ {
				dir := filepath.Join(os.Getenv("ZTM_DATA"), strconv.Itoa(i/100))
				os.Mkdir(dir, 0o700)
				os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600)
			}
		}()
	case "unlinked":
		f, err := os.CreateTemp(os.Getenv("ZTM_DATA"), "")
		if err != nil {
			fmt.Println(err)
			return 4
		}
		os.Remove(f.Name())
		fill(f)
	case "memfd":
		fd, err := unix.MemfdCreate("ztm", 0)
		if err != nil {
			fmt.Println(err)
			return 4
		}
		fill(os.NewFile(uintptr(fd), "memfd"))
	case "hide":
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err == nil {
			return 4
		}
	case "spin":
		for range 8 {
			go func() { // ends with the process
				for n := uint(0); ; n++ {
					runtime.KeepAlive(n)
				}
			}()
		}
	case "bomb":
		go func() { // ends with the process
			for {
				exec.Command(program(), "deaf").Start()
			}
		}()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		exec.Command(program(), "deaf").Start()
	case "family":
		cmd := exec.Command(program(), "deaf")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 4
		}
	case "deaf":
		unix.Pause()
	}
	return echo()
}

// fill writes 8 MB to a file that stays open.
func fill(f *os.File) {
	f.Write(make([]byte, 8<<20))
	unix.Dup(int(f.Fd()))
}

// program is the app's own program: its directory is where it starts.
func program() string {
	dir, _ := os.Getwd()
	return filepath.Join(dir, "program")
}

// echo accepts on descriptor 3 and echoes.
func echo() int {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Println(err)
		return 5
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return 6
		}
		go func() { // ends with the connection
			io.Copy(c, c)
			c.(*net.UnixConn).CloseWrite()
		}()
	}
}

// fixture is a runner of the test binary.
type fixture struct {
	*Runner
	spec Spec
}

func newRunner(t testing.TB, what string, change func(*Spec, *Config)) fixture {
	t.Helper()
	g := NewGroup(rand.Text()) // no other test has its accounts
	g.grace = 100 * time.Millisecond
	if _, err := g.Means(); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "ztm-run-")
	if err != nil {
		t.Fatal(err)
	}
	spec := place(t, dir, what)
	config := Config{API: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&spec, &config)
	}
	config.Spec = func() (Spec, error) { return spec, nil }
	r := g.New("alice/app", config)
	t.Cleanup(func() { r.Close(); g.Close(); os.RemoveAll(dir) })
	return fixture{r, spec}
}

// place makes an app of the test binary.
func place(t testing.TB, dir, what string) Spec {
	t.Helper()
	program, err := os.ReadFile("/proc/self/exe")
	err = errors.Join(err, os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "1"), 0o755),
		os.WriteFile(filepath.Join(dir, "1", "program"), program, 0o755), os.Chmod(filepath.Join(dir, "1", "program"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Dir: filepath.Join(dir, "1"), Data: filepath.Join(dir, "data"), Manifest: manifest.Manifest{Provider: "alice", Name: "app", Version: "1",
		Sequence: 1, Exec: map[string][]string{"any": {"program", what}}, Rights: manifest.Rights{Memory: 1 << 30, Processes: 64}}}
}

// echoes checks that a connection comes back.
func (f fixture) echoes(t testing.TB) {
	t.Helper()
	c, err := f.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	c.(*conn).CloseWrite()
	c.SetDeadline(time.Now().Add(appstest.Timeout))
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Fatalf("it answers %q, %v", b, err)
	}
}

func TestAnAppStartsWhenItIsAskedForAndRunsOn(t *testing.T) {
	f := newRunner(t, "echo", nil)
	if s := f.Status(); s.State != Stopped {
		t.Errorf("before: %+v", s)
	}
	f.echoes(t)
	first := f.Status()
	f.echoes(t)
	if s := f.Status(); s.State != Running || s.PID != first.PID || s.Confined == "" || s.Memory == 0 || s.Flows != 0 {
		t.Errorf("then %+v, before %+v", s, first)
	}
	f.Stop("the owner wants it")
	if s := f.Status(); s.State != Stopped || s.Error != "" || s.Ended != "the owner wants it" || s.Restarts != 0 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestAnAppIsWhatEndsWhereMemoryDoes(t *testing.T) {
	f := newRunner(t, "echo", nil)
	f.echoes(t)
	score, err := os.ReadFile("/proc/" + strconv.Itoa(f.Status().PID) + "/oom_score_adj")
	if strings.TrimSpace(string(score)) != "1000" {
		t.Errorf("%q, %v", score, err)
	}
}

func TestAnAppEndsWhereItWouldBeAnotherByNow(t *testing.T) {
	unconfined := false
	f := newRunner(t, "echo", nil)
	f.config.Spec = func() (Spec, error) { s := f.spec; s.Unconfined = unconfined; return s, nil }
	f.echoes(t)
	pid := f.Status().PID
	if f.Renew(""); f.Status().PID != pid {
		t.Error("it ended, and nothing had changed")
	}
	unconfined = true
	if f.Renew("it was changed"); f.Status().State != Stopped {
		t.Errorf("it goes on: %+v", f.Status())
	}
}

// ports returns how many sockets of the network this process has.
func ports(t *testing.T) (n int) {
	var all string
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/self/net/" + kind)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all += string(text)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		name, _ := os.Readlink("/proc/self/fd/" + fd.Name()) // one that was closed is none
		if inode, is := strings.CutPrefix(name, "socket:["); is && strings.Contains(all, " "+strings.TrimSuffix(inode, "]")+" ") {
			n++
		}
	}
	return n
}

func TestNothingOfAnAppIsOpenToOthers(t *testing.T) {
	f, before := newRunner(t, "echo", nil), ports(t)
	f.echoes(t)
	if now := ports(t); now > before {
		t.Errorf("this process has %d ports for it", now-before)
	}
	dir := f.proc.dir
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory of its sockets: %v, %v", fi, err)
	}
	tcp, err := os.ReadFile("/proc/" + strconv.Itoa(f.Status().PID) + "/net/tcp")
	if f.proc.means.Network && (err != nil || strings.Count(string(tcp), "\n") > 1) {
		t.Errorf("it listens: %s, %v", tcp, err)
	}
	f.Stop("")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its sockets are left: %v", err)
	}
}

func TestAnAppThatNobodyUsesStops(t *testing.T) {
	f := newRunner(t, "echo", func(_ *Spec, c *Config) { c.Idle = time.Millisecond })
	c, err := f.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.echoes(t)
	if s := f.Status(); s.State != Running || s.Flows != 1 {
		t.Errorf("with a connection: %+v", s)
	}
	c.Close()
	appstest.Eventually(t, "it stops", func() bool { return f.Status().State == Stopped })
	f.echoes(t)
}

func TestAnAppThatFailsIsGivenUpAfterTenTimesWithTheReason(t *testing.T) {
	f := newRunner(t, "crash", nil)
	for range giveUp {
		if s := f.Status(); s.State == Failed {
			t.Fatalf("too early: %+v", s)
		}
		f.Dial(t.Context()) // it may have ended before it is connected to
		appstest.Eventually(t, "it ends", func() bool { return f.Status().PID == 0 })
		if _, err := f.Dial(t.Context()); err == nil {
			t.Fatal("it is started again at once")
		}
		f.mu.Lock()
		f.until = time.Time{}
		f.mu.Unlock()
	}
	s := f.Status()
	if s.State != Failed || s.Restarts != giveUp || !strings.Contains(s.Error, "exit status 3") || !strings.HasSuffix(s.Error, "the last word ?[2J") {
		t.Errorf("at the end: %+v", s)
	}
	if _, err := f.Dial(t.Context()); err == nil {
		t.Error("it is started again")
	}
	if err := f.Start(t.Context()); err != nil {
		t.Errorf("a person starts it: %v", err)
	}
}

func TestAllOfAnAppEndsWithIt(t *testing.T) {
	for _, what := range []string{"stubborn", "family"} {
		t.Run(what, func(t *testing.T) {
			f := newRunner(t, what, nil)
			f.echoes(t)
			pid := f.Status().PID
			f.Stop("")
			if pids, err := session.Members(pid); err != nil || len(pids) > 0 {
				t.Errorf("it left %v, %v", pids, err)
			}
		})
	}
}

func TestWhatAnAppTakesIsItsOwnLoss(t *testing.T) {
	appstest.Long(t)
	good := newRunner(t, "echo", nil)
	good.echoes(t)
	pid := good.Status().PID
	t.Run("memory", func(t *testing.T) {
		f := newRunner(t, "allocate", nil)
		if err := f.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		appstest.Eventually(t, "it ends", func() bool { return f.Status().State == Waiting })
	})
	t.Run("processes", func(t *testing.T) {
		f := newRunner(t, "bomb", func(s *Spec, _ *Config) { s.Manifest.Rights.Processes = 16 })
		if err := f.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		pid := f.Status().PID
		appstest.Eventually(t, "it has some, or died of it", func() bool { return count(pid) > 2 || f.Status().PID != pid })
		for range 50 {
			if n := count(pid); n > 16 {
				t.Fatalf("it has %d processes, confined by %v", n, f.Status().Confined)
			}
		}
	})
	t.Run("log", func(t *testing.T) {
		f := newRunner(t, "flood", nil)
		f.echoes(t)
		next := int64(0)
		for next < 4*ringSize {
			var text []byte
			if text, next = f.Log(t.Context(), next, true); len(text) > ringSize {
				t.Fatalf("%d bytes are kept", len(text))
			}
		}
		if text, _ := f.Log(t.Context(), 0, false); len(text) > ringSize {
			t.Errorf("%d bytes are kept", len(text))
		}
	})
	if good.echoes(t); good.Status().PID != pid {
		t.Error("another app was started anew")
	}
}

func TestWhereNothingHoldsAnAppItIsNotStartedUnlessItsOwnerSaysSo(t *testing.T) {
	unconfined := false
	f := newRunner(t, "echo", nil)
	f.group.find = func() (confine.Means, error) {
		return confine.Means{}, fmt.Errorf("%w: the kernel has no Landlock", confine.ErrUnable)
	}
	f.config.Spec = func() (Spec, error) { s := f.spec; s.Unconfined = unconfined; return s, nil }
	if err := f.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no Landlock") || !strings.Contains(err.Error(), "--unconfined") {
		t.Errorf("it is started: %v", err)
	}
	unconfined = true
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.echoes(t)
	if s := f.Status(); s.Confined != "nothing" {
		t.Errorf("it is shown as held by %q", s.Confined)
	}
}

// administers reports whether this program has the capability CAP_SYS_ADMIN.
func administers(t *testing.T) bool {
	t.Helper()
	var has [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &has[0]); err != nil {
		t.Fatal(err)
	}
	return has[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func TestAnAppThatSpinsWaitsForOthers(t *testing.T) {
	f := newRunner(t, "spin", nil)
	f.echoes(t)
	pid := f.Status().PID
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, pid); 20-nice != 10 || err != nil {
		t.Errorf("its nice value is %d, %v", 20-nice, err)
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/autogroup")
	group := strings.TrimSpace(string(text))
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && group == "":
		t.Skip("this kernel does not group tasks by session")
	case strings.HasSuffix(group, " nice 0") && !administers(t):
		t.Skip("this kernel takes one such value at a time from all programs, and had others to take")
	case !strings.HasSuffix(group, " nice 10") || err != nil:
		t.Errorf("its group has %q, %v", text, err)
	}
}

// TestAProgramHasNoMoreThanItsConnections: each is a descriptor of the agent.
func TestAProgramHasNoMoreThanItsConnections(t *testing.T) {
	f := newRunner(t, "echo", nil)
	f.echoes(t)
	f.mu.Lock()
	socket := apiSocket(f.proc.dir)
	f.mu.Unlock()
	answered := 0
	for range maxConnections + 50 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(appstest.Timeout))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if n, _ := c.Read(make([]byte, 1)); n == 1 {
			answered++
		}
	}
	if answered != maxConnections {
		t.Errorf("%d connections are answered at the same time, the limit is %d", answered, maxConnections)
	}
}

// BenchmarkFirst is a first request to an app that is stopped; 50 ms is the budget.
func BenchmarkFirst(b *testing.B) {
	f := newRunner(b, "echo", nil)
	for b.Loop() {
		f.echoes(b)
		b.StopTimer()
		f.Stop("")
		b.StartTimer()
	}
}

// BenchmarkNext is a request to an app that runs.
func BenchmarkNext(b *testing.B) {
	f := newRunner(b, "echo", nil)
	f.echoes(b)
	for b.Loop() {
		f.echoes(b)
	}
}
