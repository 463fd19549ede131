//go:build linux

package terminal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/process"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(asClient); args != "" {
		os.Exit(client(strings.Split(args, "\n")))
	}
	os.Exit(appstest.Run(m))
}

// mesh is two endpoints of alice, one of bob, and the terminal app on alice's office.
type mesh struct {
	net                   appstest.Net
	app                   *App // of the office
	office, laptop, phone *appstest.Host
	log                   *appstest.Buffer // of the office
	stop                  func()
}

func newMesh() *mesh {
	m := &mesh{log: &appstest.Buffer{}}
	m.office, m.laptop, m.phone = m.net.Join("office", "alice"), m.net.Join("laptop", "alice"), m.net.Join("phone", "bob")
	m.office.Log = m.log
	app := m.office.New(name, New)
	m.app = app.(*App)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { app.Run(ctx) })
	m.stop = func() { cancel(); running.Wait() }
	return m
}

func testMesh(t *testing.T) *mesh {
	m := newMesh()
	t.Cleanup(m.stop)
	return m
}

// run runs `ztm terminal` with stdin, at an endpoint.
func (m *mesh) run(at *appstest.Host, stdin io.Reader, args ...string) appstest.Result {
	c := &appstest.Console{Host: at, In: stdin}
	if args[0] == "config" {
		c.At = m.office
	}
	return c.Capture(func() error { return run(c, args...) })
}

// run runs a command line that is already in the order that the flag parser wants.
func run(c apps.Console, args ...string) error { return appstest.RunCommand(commands(c), args...) }

func (m *mesh) must(t *testing.T, args ...string) {
	t.Helper()
	if r := m.run(m.laptop, nil, args...); r.Failure != "" || r.Status != 0 {
		t.Fatalf("%q: %+v", args, r)
	}
}

func TestCommandIsLikeHere(t *testing.T) {
	m := testMesh(t)
	tests := []struct {
		name  string
		stdin string
		args  []string
		want  appstest.Result
	}{
		{"streams apart", "a\x00\xffb", []string{"sh", "-c", "cat; echo no >&2"}, appstest.Result{Out: "a\x00\xffb", Err: "no\n"}},
		{"arguments as they are", "", []string{"printf", "%s|", "a b", "", "$HOME", "ü"}, appstest.Result{Out: "a b||$HOME|ü|"}},
		{"arguments that are no characters", "", []string{"printf", "%s|", "caf\xe9.txt", "\xff"}, appstest.Result{Out: "caf\xe9.txt|\xff|"}},
		{"a program whose name is no characters", "", []string{"caf\xe9"}, appstest.Result{Status: 127, Err: "ztm: \"caf\\xe9\": not found on office\n"}},
		{"status 7", "", []string{"sh", "-c", "exit 7"}, appstest.Result{Status: 7}},
		{"status 130", "", []string{"sh", "-c", "exit 130"}, appstest.Result{Status: 130}},
		{"killed", "", []string{"sh", "-c", "kill -KILL $$"}, appstest.Result{Status: 137}},
		{"not found", "", []string{"no-such-program"}, appstest.Result{Status: 127, Err: "ztm: no-such-program: not found on office\n"}},
		{"not executable", "", []string{"/etc/passwd"}, appstest.Result{Status: 126, Err: "ztm: /etc/passwd: permission denied on office\n"}},
		{"the shell reads a script", "echo hello; exit 3\n", nil, appstest.Result{Out: "hello\n", Status: 3}},
		{"an account that does not exist", "", []string{"id"}, appstest.Result{Out: ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "an account that does not exist" {
				r := m.run(m.laptop, nil, "open", "--run-as=no-such", "--", "office", "id")
				if want := (appstest.Result{Status: 127, Err: "ztm: this endpoint has no account \"no-such\"\n"}); r != want {
					t.Errorf("got %+v", r)
				}
				return
			}
			got := m.run(m.laptop, strings.NewReader(tt.stdin), append([]string{"open", "--", "office"}, tt.args...)...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("command (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAgentStopsThoughACallerDoesNotRead(t *testing.T) {
	m := newMesh()
	conn, err := m.laptop.Open(t.Context(), m.office.Self().ID, "terminal/shell", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begin := []byte(`{"command":["yes"]}`)
	if _, err := conn.Write(append([]byte{1, 0, 0, byte(len(begin))}, begin...)); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "the session", func() bool { return len(m.list(t)) == 1 })
	m.stop()
}

func TestTarStreamArrivesBothWays(t *testing.T) {
	appstest.Long(t)
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("tar is missing")
	}
	m := testMesh(t)
	from, to := t.TempDir(), t.TempDir()
	sum := sha256.New()
	f, err := os.Create(filepath.Join(from, "größe"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8([32]byte{7}), 100<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var down appstest.Result
	var both sync.WaitGroup
	both.Go(func() {
		var errs bytes.Buffer
		c := &appstest.Console{Host: m.laptop, Out: w, Err: &errs}
		if err := run(c, "open", "--", "office", "tar", "c", "-C", from, "."); err != nil {
			down.Failure = err.Error() + errs.String()
		}
		w.Close()
	})
	up := m.run(m.laptop, r, "open", "--", "office", "tar", "x", "-C", to)
	r.Close()
	both.Wait()
	if (up != appstest.Result{}) || (down != appstest.Result{}) {
		t.Fatalf("there: %+v, back: %+v", up, down)
	}
	got := sha256.New()
	if f, err = os.Open(filepath.Join(to, "größe")); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(got, f); err != nil || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Errorf("the file has changed on its way: %v", err)
	}
}

func TestOutsiderIsRefusedBeforeAnythingStarts(t *testing.T) {
	m := testMesh(t)
	mark := filepath.Join(t.TempDir(), "mark")
	want := "not allowed (ref 000000): ask the owner of office"
	for _, args := range [][]string{
		{"open", "--", "office", "touch", mark}, {"open", "-t", "--", "office"}, {"attach", "office"},
		{"sessions", "office"}, {"sessions", "--end=x", "office"},
	} {
		if diff := cmp.Diff(appstest.Result{Failure: want}, m.run(m.phone, nil, args...)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the command of an outsider was run")
	}
	if strings.Contains(m.log.String(), "terminal started") {
		t.Error("something was started")
	}
}

func TestGuestIsLetInAndOut(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob", "--add-user=carol")
	if r := m.run(m.phone, nil, "open", "--", "office", "echo", "hi"); r.Out != "hi\n" {
		t.Fatalf("the guest got %+v", r)
	}
	if r := m.run(m.phone, nil, "open", "--run-as=daemon", "--", "office", "id"); r.Status != 126 {
		t.Errorf("the guest chose its account: %+v", r)
	}
	done := make(chan appstest.Result, 1)
	in, type_ := io.Pipe()
	defer type_.Close()
	go func() { done <- m.run(m.phone, in, "open", "--", "office", "sleep", "1000") }()
	appstest.Eventually(t, "the guest's session", func() bool { return len(m.list(t)) == 1 })
	m.must(t, "config", "--del-user=bob")
	if r := <-done; r.Status == 0 {
		t.Errorf("the guest's session ended with %+v", r)
	}
	appstest.Eventually(t, "the end of the guest's session", func() bool { return len(m.list(t)) == 0 })
	if r := m.run(m.phone, nil, "open", "--", "office", "echo", "hi"); r.Failure == "" {
		t.Errorf("the guest is still let in: %+v", r)
	}
}

// list returns the sessions as the owner sees them.
func (m *mesh) list(t *testing.T) (list []process.Info) {
	t.Helper()
	var out bytes.Buffer
	if err := run(&appstest.Console{Host: m.laptop, Out: &out, JSON: true}, "sessions", "office"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAuditLinesSayWhoWhenAndHow(t *testing.T) {
	m := testMesh(t)
	m.run(m.laptop, nil, "open", "--", "office", "sh", "-c", "exit 7", "secret-argument")
	peer := string(m.laptop.Self().ID)
	for _, want := range []string{
		`msg="terminal started" session=[0-9a-f]{8} user=alice peer=` + peer + ` program=\S*/sh account=\S+ tty=false keep=false`,
		`msg="terminal ended" session=[0-9a-f]{8} user=alice peer=` + peer + ` status=7 signal="" reason="" seconds=\d+`,
	} {
		line := regexp.MustCompile(`time=\S+ level=INFO ` + want)
		appstest.Eventually(t, want, func() bool { return line.MatchString(m.log.String()) })
	}
	if strings.Contains(m.log.String(), "secret-argument") {
		t.Error("arguments are in the log")
	}
}

func TestEnvironmentOfAProgram(t *testing.T) {
	m := testMesh(t)
	t.Setenv("TERM", "xterm-ghostty")
	t.Setenv("LC_TIME", "de_DE.UTF-8")
	t.Setenv("ZTM_SECRET", "x")
	got := m.run(m.laptop, nil, "open", "--", "office", "env").Out
	for _, want := range []string{"TERM=xterm-ghostty", "LC_TIME=de_DE.UTF-8", "ZTM_USER=alice", "ZTM_MESH=" + m.office.Name(),
		"ZTM_ENDPOINT=" + string(m.laptop.Self().ID)} {
		if !strings.Contains("\n"+got, "\n"+want+"\n") {
			t.Errorf("%s is missing in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "ZTM_SECRET") {
		t.Error("the agent's own environment is passed on")
	}
	env, err := environment([]string{"LD_PRELOAD=/x", "PATH=/x", "BASH_ENV=/x", "TERM=a", "LC_ALL=b"})
	if diff := cmp.Diff([]string{"TERM=a", "LC_ALL=b"}, env); diff != "" || err != nil {
		t.Errorf("environment (-want +got), %v:\n%s", err, diff)
	}
	for _, bad := range [][]string{{"TERM"}, {"TERM=a\nb"}, {"LANG=" + strings.Repeat("x", 300)}, make([]string, 40)} {
		if _, err := environment(bad); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("environment(%q): %v", bad, err)
		}
	}
}

func TestRunAsBecomesTheAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another account needs root")
	}
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob", "--run-as=nobody")
	want := appstest.Result{Out: "65534 65534 65534 /nonexistent nobody\n"}
	script := []string{"sh", "-c", `echo $(id -u) $(id -g) $(id -G) $HOME $USER`}
	for _, at := range []*appstest.Host{m.phone, m.laptop} {
		if diff := cmp.Diff(want, m.run(at, nil, append([]string{"open", "--", "office"}, script...)...)); diff != "" {
			t.Errorf("as nobody (-want +got):\n%s", diff)
		}
	}
	r := m.run(m.laptop, nil, append([]string{"open", "--run-as=daemon", "--", "office"}, script...)...)
	if r.Out != "1 1 1 /usr/sbin daemon\n" {
		t.Errorf("the owner chose daemon and got %+v", r)
	}
}

func TestConfigIsShownAndKept(t *testing.T) {
	m := testMesh(t)
	dir := filepath.Join(t.TempDir(), "casts")
	m.must(t, "config", "--set-shell=/bin/sh  -e", "--add-user=zoe", "--add-user=bob", "--idle-timeout=90s", "--max-sessions=3", "--record="+dir)
	want := [][]string{{"Endpoint", "office"}, {"Shell", "/bin/sh -e"}, {"Allowed Users", "bob, zoe"},
		{"Run As", "(the agent's own)"}, {"Max Sessions", "3"}, {"Idle Timeout", "1m30s"}, {"Recordings", dir}}
	var got [][]string
	for line := range strings.Lines(m.run(m.laptop, nil, "config").Out) {
		got = append(got, regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(line), 2))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	tests := []struct{ name, option, want string }{
		{"a shell that is not there", "--set-shell=/bin/no", `there is no shell "/bin/no": no such file or directory`},
		{"a relative directory", "--record=casts", `the directory for recordings is not absolute: "casts"`},
		{"a directory in a file", "--record=/etc/passwd/x", `cannot record in /etc/passwd/x: not a directory`},
		{"a duration that is none", "--idle-timeout=soon", `option --idle-timeout: "soon" is not a duration such as 90s or 1h30m`},
		{"a negative limit", "--max-sessions=-1", `the number of sessions cannot be negative`},
		{"an account that is not there", "--run-as=no-such", `this endpoint has no account "no-such"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.run(m.laptop, nil, "config", tt.option).Failure; got != tt.want {
				t.Errorf("failure %q, want %q", got, tt.want)
			}
		})
	}
	m.must(t, "config", "--set-shell=", "--idle-timeout=", "--record=")
	if out := m.run(m.laptop, nil, "config").Out; !strings.Contains(out, "(default)") || strings.Count(out, "(none)") != 2 {
		t.Errorf("after going back to the defaults:\n%s", out)
	}
	if r := m.run(m.phone, nil, "config"); r.Failure == "" {
		t.Errorf("an outsider reads the configuration: %+v", r)
	}
}

func TestMoreThanMaxSessionsIsRefused(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--max-sessions=1")
	in, type_ := io.Pipe()
	done := make(chan appstest.Result, 1)
	go func() { done <- m.run(m.laptop, in, "open", "--", "office", "cat") }()
	appstest.Eventually(t, "the first session", func() bool { return len(m.list(t)) == 1 })
	want := appstest.Result{Failure: "1 programs already run on office, which is its limit"}
	if diff := cmp.Diff(want, m.run(m.laptop, nil, "open", "--", "office", "true")); diff != "" {
		t.Errorf("the second session (-want +got):\n%s", diff)
	}
	type_.Close()
	<-done
	// The first may hear of its end before its place is free.
	appstest.Eventually(t, "the second session, after the first", func() bool {
		return m.run(m.laptop, nil, "open", "--", "office", "true") == appstest.Result{}
	})
}

func TestIdleSessionEnds(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--idle-timeout=1ms")
	in, type_ := io.Pipe()
	defer type_.Close()
	r := m.run(m.laptop, in, "open", "--", "office", "sleep", "1000")
	if r.Status != 129 || r.Err != "ztm: office ended this: it was idle for 1ms\n" {
		t.Errorf("got %+v", r)
	}
}

func TestWrongUsage(t *testing.T) {
	m := testMesh(t)
	for _, args := range [][]string{
		{"open"}, {"open", "--keep", "--", "office", "ls"}, {"open", "--escape=ab", "--", "office"}, {"attach"},
		{"config", "surplus"}, {"config", "--idle-timeout=-1s"},
	} {
		err := run(&appstest.Console{Host: m.laptop}, args...)
		var wrong *apps.UsageError
		if !errors.As(err, &wrong) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
