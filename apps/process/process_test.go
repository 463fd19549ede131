//go:build linux

package process

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
	"ztm/apps/process/session"
)

// begin starts a shell command in a session, attached to the far end of the connection that it
// returns.
func begin(t *testing.T, command string, change func(*Config)) (*Session, net.Conn) {
	t.Helper()
	a, err := Lookup("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Program: Program{Path: "/bin/sh", Args: []string{"sh", "-c", command}, Env: a.Env("LC_ALL=C.UTF-8"),
		Dir: "/", Account: a}}
	if change != nil {
		change(&cfg)
	}
	s, err := Begin(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn := attach(t, s)
	t.Cleanup(func() {
		s.End("the test is over")
		conn.Close()
		<-s.Done()
	})
	return s, conn
}

// attach attaches to a session and returns the far end.
func attach(t *testing.T, s *Session) net.Conn {
	t.Helper()
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Attach(Accepted(near)) }()
	t.Cleanup(func() { far.Close(); <-done })
	return far
}

// result is what a caller sees of a program.
type result struct {
	Out, Err string
	Exit     Exit
}

// drive runs the caller's side of a program that begin started, as Drive does after start.
func driveTo(t *testing.T, conn net.Conn, st Streams) result {
	t.Helper()
	var out, errs bytes.Buffer
	if st.Stdout == nil {
		st.Stdout = &out
	}
	st.Stderr = &errs
	exit, err := returnTo(conn, st)
	if err != nil {
		t.Errorf("Drive: %v", err)
	}
	return result{out.String(), errs.String(), exit}
}

// returnTo is Drive with the window that a program has at its start.
func returnTo(conn net.Conn, st Streams) (Exit, error) {
	return (&drive{Conn: opened(conn), st: st, failed: make(chan error, 1), window: Window}).run()
}

func TestExitStatusIsTheProgramsOwn(t *testing.T) {
	tests := []struct {
		name, command string
		want          Exit
	}{
		{"success", "exit 0", Exit{}},
		{"seven", "exit 7", Exit{Status: 7}},
		{"a shell that was interrupted", "exit 130", Exit{Status: 130}},
		{"SIGTERM", "kill -TERM $$", Exit{Status: 143, Signal: "TERM"}},
		{"SIGKILL", "kill -KILL $$", Exit{Status: 137, Signal: "KILL"}},
		{"SIGINT", "kill -INT $$", Exit{Status: 130, Signal: "INT"}},
		{"SIGSEGV", "kill -SEGV $$", Exit{Status: 139, Signal: "SEGV"}},
	}
	for _, tt := range tests {
		for _, tty := range []*Size{nil, {80, 24}} {
			t.Run(tt.name+map[bool]string{true: " on a terminal"}[tty != nil], func(t *testing.T) {
				_, conn := begin(t, tt.command, func(c *Config) { c.Program.TTY = tty })
				if diff := cmp.Diff(tt.want, driveTo(t, conn, Streams{}).Exit); diff != "" {
					t.Errorf("exit (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestPipesKeepStdoutAndStderrApart(t *testing.T) {
	_, conn := begin(t, `printf 'a\000\377b'; printf 'c\r\n' >&2; cat`, nil)
	got := driveTo(t, conn, Streams{Stdin: strings.NewReader("grüße\n\x04\x03~.")})
	want := result{Out: "a\x00\xffbgrüße\n\x04\x03~.", Err: "c\r\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
}

func TestHundredMegabytesArriveBothWays(t *testing.T) {
	appstest.Long(t)
	const size = 100 << 20
	_, conn := begin(t, "cat", nil)
	sent, got := sha256.New(), sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
	r := driveTo(t, conn, Streams{Stdin: source, Stdout: got})
	if r.Exit != (Exit{}) || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("exit %+v, sent %x, got %x", r.Exit, sent.Sum(nil), got.Sum(nil))
	}
}

func TestAllOutputIsReadBeforeTheExit(t *testing.T) {
	_, conn := begin(t, "seq 1 200000; exit 3", nil)
	out := driveTo(t, conn, Streams{})
	if !strings.HasSuffix(out.Out, "\n200000\n") || out.Exit.Status != 3 {
		t.Errorf("output ends with %q, status %d", out.Out[max(0, len(out.Out)-20):], out.Exit.Status)
	}
	_, conn = begin(t, "seq 1 20000; exit 3", func(c *Config) { c.Program.TTY = &Size{80, 24} })
	out = driveTo(t, conn, Streams{})
	if !strings.HasSuffix(out.Out, "\r\n20000\r\n") || out.Exit.Status != 3 {
		t.Errorf("on a terminal, output ends with %q, status %d", out.Out[max(0, len(out.Out)-20):], out.Exit.Status)
	}
}

func TestTerminalHasTheCallersSize(t *testing.T) {
	sizes := make(chan Size)
	in, type_ := io.Pipe()
	_, conn := begin(t, `stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do read x; done`,
		func(c *Config) { c.Program.TTY = &Size{Cols: 132, Rows: 43} })
	ready := watcher("ready", func() { sizes <- Size{Cols: 50, Rows: 20}; type_.Close() })
	got := driveTo(t, conn, Streams{Stdin: in, Stdout: ready, Sizes: sizes})
	if want := "43 132\r\nready\r\n20 50\r\n"; strings.ReplaceAll(ready.String(), "^D\b\b", "") != want || got.Exit.Status != 5 {
		t.Errorf("output %q, want %q; exit %+v", ready.String(), want, got.Exit)
	}
}

// watch is a writer that calls do once, in a goroutine, when it has seen a text.
type watch struct {
	bytes.Buffer
	text string
	once sync.Once
	do   func()
}

func watcher(text string, do func()) *watch { return &watch{text: text, do: do} }

func (w *watch) Write(p []byte) (int, error) {
	w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.once.Do(func() { go w.do() })
	}
	return len(p), nil
}

func TestCtrlCInterruptsTheForeground(t *testing.T) {
	in, type_ := io.Pipe()
	_, conn := begin(t, `trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done`, func(c *Config) { c.Program.TTY = &Size{80, 24} })
	out := watcher("ready", func() { type_.Write([]byte{3}); type_.Close() })
	got := driveTo(t, conn, Streams{Stdin: in, Stdout: out})
	if got.Exit.Status != 9 || !strings.Contains(out.String(), "caught") {
		t.Errorf("exit %+v, output %q", got.Exit, out.String())
	}
}

func TestSignalReachesAProgramThatDoesNotRead(t *testing.T) {
	signals := make(chan string)
	_, conn := begin(t, `echo ready; exec sleep 1000`, nil)
	out := watcher("ready", func() { signals <- "INT" })
	got := driveTo(t, conn, Streams{Stdin: rand.NewChaCha8([32]byte{}), Stdout: out, Signals: signals})
	if diff := cmp.Diff(Exit{Status: 130, Signal: "INT"}, got.Exit); diff != "" {
		t.Errorf("exit (-want +got):\n%s", diff)
	}
}

func TestSecondSignalLeaves(t *testing.T) {
	signals := make(chan string)
	s, conn := begin(t, `trap '' INT; echo ready; while :; do sleep 1000; done`, nil)
	out := watcher("ready", func() { signals <- "INT"; signals <- "INT" })
	_, err := returnTo(conn, Streams{Stdout: out, Stderr: io.Discard, Signals: signals})
	if !errors.Is(err, ErrLost) {
		t.Errorf("Drive returned %v, want %v", err, ErrLost)
	}
	<-s.Done()
	checkGone(t, s)
}

func TestEndOfInputIsTypedOnATerminal(t *testing.T) {
	_, conn := begin(t, "cat; exit 4", func(c *Config) { c.Program.TTY = &Size{80, 24} })
	if got := driveTo(t, conn, Streams{Stdin: strings.NewReader("héllo\n")}); got.Exit.Status != 4 || !strings.Contains(got.Out, "héllo") {
		t.Errorf("got %+v", got)
	}
}

// family starts processes of every kind that a shell can leave: in the foreground, in the
// background, in groups of their own, deaf to SIGHUP and SIGTERM, and stopped.
const family = `set -m
sleep 1001 &
(trap '' HUP TERM INT; sleep 1002; sleep 1002) &
nohup sleep 1003 >/dev/null 2>&1 &
sleep 1004 & kill -STOP $!
set +m
(sleep 1005 | sleep 1006) &
echo ready
trap '' HUP
while :; do sleep 1007; done`

func TestNothingIsLeftWhenTheFlowIsLost(t *testing.T) {
	appstest.Long(t)
	for _, tty := range []*Size{nil, {80, 24}} {
		t.Run(map[bool]string{true: "terminal", false: "pipes"}[tty != nil], func(t *testing.T) {
			s, conn := begin(t, family, func(c *Config) { c.Program.TTY = tty; c.Program.Path = "/bin/bash" })
			awaitText(t, conn, "ready")
			if !eventually(func() bool { pids, _ := session.Members(s.child.process.Pid); return len(pids) >= 9 }) {
				t.Fatal("the family is not complete")
			}
			conn.(interface{ Reset() error }).Reset()
			<-s.Done()
			checkGone(t, s)
			if got := s.Exit().Reason; got != "the connection was lost" {
				t.Errorf("reason %q", got)
			}
		})
	}
}

// awaitText reads the caller's frames until they contain text.
func awaitText(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	c, seen := opened(conn), ""
	for !strings.Contains(seen, text) {
		k, p, err := c.next()
		if err != nil {
			t.Fatalf("waiting for %q after %q: %v", text, seen, err)
		}
		if k == kindStdout {
			seen += string(p)
		}
	}
}

func checkGone(t *testing.T, s *Session) {
	t.Helper()
	if pids, err := session.Members(s.child.process.Pid); err != nil || len(pids) > 0 {
		t.Errorf("still running: %v, %v", pids, err)
	}
}

func TestWhatAProgramLeavesGoesOn(t *testing.T) {
	s, conn := begin(t, "sleep 1000 >/dev/null 2>&1 & echo $!", func(c *Config) { c.Program.TTY = nil })
	got := driveTo(t, conn, Streams{})
	<-s.Done()
	pid, err := strconv.Atoi(strings.TrimSpace(got.Out))
	if err != nil {
		t.Fatal(err)
	}
	if unix.Kill(pid, unix.SIGKILL) != nil {
		t.Error("the process that was left in the background has gone")
	}
}

func TestBackgroundJobDoesNotHoldTheTerminal(t *testing.T) {
	s, conn := begin(t, "trap '' HUP; sleep 1000 & echo $!; exit 6", func(c *Config) { c.Program.TTY = &Size{80, 24} })
	got := driveTo(t, conn, Streams{})
	<-s.Done()
	if pid, err := strconv.Atoi(strings.TrimSpace(got.Out)); err == nil {
		unix.Kill(pid, unix.SIGKILL)
	}
	if got.Exit.Status != 6 {
		t.Errorf("exit %+v", got.Exit)
	}
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   Exit
	}{
		{"time", func(c *Config) { c.Limit = 50 * time.Millisecond },
			Exit{Status: StatusTimeout, Signal: "HUP", Reason: "it took longer than 50ms"}},
		{"idleness", func(c *Config) { c.Idle = 50 * time.Millisecond },
			Exit{Status: 129, Signal: "HUP", Reason: "it was idle for 50ms"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, conn := begin(t, "exec sleep 1000", tt.change)
			if diff := cmp.Diff(tt.want, driveTo(t, conn, Streams{}).Exit); diff != "" {
				t.Errorf("exit (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeptSessionIsReturnedTo(t *testing.T) {
	s, conn := begin(t, `echo one; read a; echo "got $a"; read b; exit 8`, func(c *Config) {
		c.Keep, c.Program.TTY = true, &Size{80, 24}
	})
	awaitText(t, conn, "one")
	conn.(interface{ Reset() error }).Reset()
	if !eventually(func() bool { return !s.Attached() }) {
		t.Fatal("the session still has its lost caller")
	}

	second := attach(t, s)
	c := opened(second)
	awaitText(t, second, "one")
	if err := c.sendBytes(kindStdin, []byte("two\n")); err != nil {
		t.Fatal(err)
	}
	awaitText(t, second, "got two")

	third := attach(t, s)
	var taken Exit
	st := Streams{Stdout: io.Discard, Stderr: io.Discard}
	taken, err := (&drive{Conn: opened(second), st: st, failed: make(chan error, 1)}).run()
	if err != nil || taken.Reason == "" {
		t.Errorf("the caller that was replaced sees %+v, %v", taken, err)
	}
	exit, err := Drive(third, nil, nil, Streams{Stdin: strings.NewReader("x\n"), Stdout: io.Discard, Stderr: io.Discard})
	if err != nil || exit.Status != 8 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

func TestMoreThanTheWindowEndsTheFlow(t *testing.T) {
	s, conn := begin(t, "exec sleep 1000", nil)
	c := opened(conn)
	for range Window/maxData + 2 + 4 { // a pipe's worth is taken at once
		if c.sendBytes(kindStdin, make([]byte, maxData)) != nil {
			break
		}
	}
	<-s.Done()
	checkGone(t, s)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiveHundredSessionsLeaveNothing(t *testing.T) {
	appstest.Long(t)
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list)
	}
	run := func(i int) {
		var tty *Size
		if i%2 == 0 {
			tty = &Size{80, 24}
		}
		near, far, err := appstest.Pair("tcp")
		must(t, err)
		a, err := Lookup("")
		must(t, err)
		s, err := Begin(Config{Program: Program{Path: "/bin/sh", Args: []string{"sh", "-c", "cat; exit 7"}, Dir: "/", Account: a, TTY: tty}})
		must(t, err)
		var served sync.WaitGroup
		served.Go(func() { s.Attach(Accepted(near)) })
		if i%5 == 0 {
			far.(interface{ Reset() error }).Reset()
		} else if exit, err := returnTo(far, Streams{Stdin: strings.NewReader("hello\n"), Stdout: io.Discard, Stderr: io.Discard}); err != nil || exit.Status != 7 {
			t.Errorf("session %d: %+v, %v", i, exit, err)
		}
		served.Wait()
	}
	run(1)
	before := fds()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for j := range 50 {
				run(i*50 + j)
			}
		})
	}
	all.Wait()
	if !eventually(func() bool { return fds() <= before }) {
		t.Errorf("%d descriptors before, %d after", before, fds())
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		t.Errorf("waitid: %v, want no children at all", err)
	}
}
