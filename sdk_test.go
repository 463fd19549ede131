package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/agent"
	"ztm/apps"
)

// echoing is an app of a module outside of this one, which has copied the package sdk.
const echoing = `package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"

	"echoing/sdk"
)

// echo copies as a program does: the kernel can do that by itself between two TCP connections.
func echo(c sdk.Conn) {
	defer c.Close()
	io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	c.CloseWrite()
}

// serve echoes at a port, as a target of a tunnel.
func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	for {
		c, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(c.(*net.TCPConn))
	}
}

func main() {
	if len(os.Args) > 1 {
		harm(os.Args[1])
		serve()
	}
	listener, err := sdk.Listen()
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/ztm-command", sdk.Command(func(from sdk.Caller, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
		fmt.Fprintln(stdout, from.User, args)
		io.Copy(stdout, stdin)
		return 3
	}))
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if c, err := sdk.Stream(w, r); err == nil {
			echo(c)
		}
	})
	http.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	http.HandleFunc("/harm/{kind}", func(_ http.ResponseWriter, r *http.Request) {
		for range runtime.NumCPU() {
			go keepOn(r.PathValue("kind"))
		}
	})
	log.Fatal(http.Serve(listener, nil))
}
`

// noHarm is the file of the app echoing for systems on which nobody asks it to harm others.
const noHarm = "//go:build !linux\n\npackage main\n\nfunc keepOn(string) {}\nfunc harm(string) {}\n"

// harm is the file of the app echoing that harms others, on Linux: all of it without end. What takes memory or starts
// processes does so in processes of its own, so that the app goes on where they cannot.
const harm = `package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// keepOn does harm of a kind without end.
func keepOn(kind string) {
	switch kind {
	case "allocate", "bomb":
		for {
			c := exec.Command("./echoing", kind)
			c.Env = append(os.Environ(), "GOMAXPROCS=1")
			c.Run()
		}
	case "flood":
		for {
			fmt.Println(os.Environ())
		}
	case "spin":
		for {
		}
	}
}

// harm is a process that does harm of a kind.
func harm(kind string) {
	switch kind {
	case "allocate":
		for all := [][]byte{}; ; {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
	case "bomb":
		bomb()
	}
}

// bomb starts processes that do the same, by a call of the system alone: the runtime ends where it gets no thread.
// So some are left for the app, which would end otherwise, and all of this with it.
func bomb() {
	const limitOfProcesses, left = 6, 8
	var most syscall.Rlimit
	if err := syscall.Getrlimit(limitOfProcesses, &most); err != nil {
		log.Fatal(err)
	}
	most.Cur -= left
	if err := syscall.Setrlimit(limitOfProcesses, &most); err != nil {
		log.Fatal(err)
	}
	runtime.LockOSThread()
	for {
		syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	}
}
`

// echoingApp builds it, and returns its directory.
func echoingApp(t testing.TB) string {
	t.Helper()
	needsApps(t, "go")
	dir := filepath.Join(t.TempDir(), "echoing")
	sdk, err := os.ReadFile(filepath.Join("apps", "external", "sdk", "sdk.go"))
	err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "sdk"), 0o755))
	for name, text := range map[string]string{"main.go": echoing, "harm_linux.go": harm, "harm_other.go": noHarm, "sdk/sdk.go": string(sdk), "go.mod": "module echoing\n\ngo 1.24\n",
		"app.json": `{"name": "echoing", "version": "1", "exec": {"any": ["echoing"]}, "command": "say it again"}`} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(text), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "echoing", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return dir
}

func TestAModuleOutsideCopiesThePackageForAppsAndWorks(t *testing.T) {
	dir := echoingApp(t)
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "app", "install", "--yes", dir)
	if out, errs, status := w.typed("and again", "root", "echoing", "a", "b c"); status != 3 || out != "root [a b c]\nand again" || errs != "" {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

// probe is an app of the binary that gives the mesh away, and echoes or answers a request.
type probe struct{ mesh apps.Mesh }

func (*probe) Name() string                  { return "probe" }
func (*probe) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (*probe) Left(func(apps.Peer) bool)     {}
func (*probe) API() http.Handler             { return http.NotFoundHandler() }
func (*probe) Serve(_ context.Context, f apps.Flow) {
	c, err := f.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	if f.Path() == "echo" {
		io.Copy(c, c)
	} else if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	}
}

// ownServer starts the program of an app as what a tunnel leads to, and returns where it listens. One that
// waits has no more weight beside the agent than an app.
func ownServer(b *testing.B, dir string, waits bool) string {
	b.Helper()
	words := []string{filepath.Join(dir, "echoing"), "serve"}
	if waits {
		words = append([]string{"setsid", "nice", "-n", "10"}, words...)
	}
	cmd := exec.CommandContext(b.Context(), words[0], words[1:]...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	if waits { // there are kernels that do not group tasks by session
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte("10"), 0); err != nil {
			b.Log(err)
		}
	}
	return strings.TrimSpace(line)
}

// BenchmarkApps compares an app of somebody else with what the binary does itself, from one endpoint
// to another: `go test -run '^$' -bench BenchmarkApps -count 5 .` in turns.
func BenchmarkApps(b *testing.B) {
	b.Setenv("TMPDIR", b.TempDir()) // so that the socket of the program is found
	w, open := appWorld(b)
	turn := func(path string) {
		c := open(path)
		defer c.Close()
		one := []byte{1}
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
	}
	request := func(path string) {
		c := open(path)
		defer c.Close()
		if _, err := io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			b.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != "hello" || err != nil {
			b.Fatal(string(text), err)
		}
	}
	const app, own = "app/stream/root/echoing/", "probe/echo"
	turn(own)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			w.ztm("second", "app", "stop", "echoing")
			b.StartTimer()
			turn(app)
		}
	})
	turn(app)
	for _, x := range []struct {
		name, path string
		once       func(path string)
	}{{"request/app", "app/http/root/echoing", request}, {"request/binary", "probe/request", request}, {"request/program", "", asking(b)}, {"stream/app", app, turn}, {"stream/binary", own, turn}} {
		b.Run(x.name, func(b *testing.B) { timed(b, func() { x.once(x.path) }) })
	}
	for _, x := range [][2]string{{"flow/app", app}, {"flow/tunnel", "tunnel/tcp/echo"}, {"flow/tunnel to what waits as the app", "tunnel/tcp/waiting"}} {
		b.Run(x[0], func(b *testing.B) { flood(b, open(x[1])) })
	}
}

// asking returns what asks the program of the app itself, on a connection that is kept: without a mesh, and
// so the least that an app costs more than the binary.
func asking(b *testing.B) func(string) {
	b.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "ztm-app-*", "in"))
	if err != nil || len(found) != 1 {
		b.Fatalf("%d sockets of programs, %v", len(found), err)
	}
	c, err := net.Dial("unix", found[0])
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	in := bufio.NewReader(c)
	return func(string) {
		if _, err := io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			b.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != "hello" || err != nil {
			b.Fatal(string(text), err)
		}
	}
}

// timed runs a benchmark and reports the times below which a tenth and a half of all are. The tenth says
// most where other programs are running.
func timed(b *testing.B, once func()) {
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		once()
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/10].Microseconds()), "p10-µs")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}

// probes gives agents that are started from now on an app probe, and returns the one of each endpoint by its
// name.
func (w *world) probes() map[string]*probe {
	probes := map[string]*probe{}
	w.options = agent.Config{Apps: append(kinds(), apps.Kind{Name: "probe", New: func(h apps.Host) apps.App {
		probes[h.Mesh.Self().Name] = &probe{h.Mesh}
		return probes[h.Mesh.Self().Name]
	}})}
	return probes
}

// appWorld is two endpoints. The second has the app echoing, and its program behind a tunnel, too; open opens
// a flow to it from the first.
func appWorld(b *testing.B) (w *world, open func(path string) net.Conn) {
	b.Helper()
	dir := echoingApp(b)
	w = newWorld(b)
	probes := w.probes()
	w.join("root", "root")
	w.startAgent("second")
	w.ztm("second", "join", "demo", "--as", "ep-second", "--permit", w.path("root.json"))
	w.connected("second")
	w.ztm("second", "app", "install", "--yes", dir)
	w.ztm("second", "tunnel", "open", "outbound", "tcp/echo", "--targets", ownServer(b, dir, false))
	w.ztm("second", "tunnel", "open", "outbound", "tcp/waiting", "--targets", ownServer(b, dir, true))
	to := w.endpoint("ep-second").ID
	return w, func(path string) net.Conn {
		c, err := probes["ep-root"].mesh.Open(b.Context(), to, path, url.Values{})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
}

// flood sends pieces through an echo and reads them back.
func flood(b *testing.B, c net.Conn) {
	defer c.Close()
	piece := make([]byte, 1<<20)
	b.SetBytes(int64(len(piece)))
	sent := make(chan error, 1)
	go func() { // ends with c
		for range b.N {
			if _, err := c.Write(piece); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	back := make([]byte, len(piece))
	b.ResetTimer()
	for range b.N {
		if _, err := io.ReadFull(c, back); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
}
