//go:build linux

package emulate

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ztm/tunnel/freeport"
)

var (
	targets  = flag.String("targets", "linux/mipsle,linux/mips,linux/arm5,linux/386", "the targets to run, with commas between them")
	binaries = flag.String("binaries", "", "a directory of `go run ./cross -bare`, instead of building")
)

// emulators are the names of qemu's programs; native runs here as it is.
var emulators = map[string]string{
	"linux/mipsle": "qemu-mipsel", "linux/mips": "qemu-mips", "linux/mips64": "qemu-mips64", "linux/mips64le": "qemu-mips64el",
	"linux/arm5": "qemu-arm", "linux/armv7": "qemu-arm", "linux/arm64": "qemu-aarch64", "linux/riscv64": "qemu-riscv64",
	"linux/loong64": "qemu-loongarch64", "linux/386": "native", "linux/amd64": "native",
}

// timeout is how long anything may take: emulated, on a machine with other work.
const timeout = 2 * time.Minute

func TestTheReleaseRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and emulates")
	}
	for _, name := range strings.Split(*targets, ",") {
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			d := &device{t: t, dir: t.TempDir()}
			if d.windows = name == "windows/amd64"; d.windows {
				d.run, d.env = wine(t)
			} else {
				d.run = emulator(t, name)
			}
			d.run = append(d.run, build(t, name))
			d.scenario()
		})
	}
}

// emulator returns the command that runs a binary of the target.
func emulator(t *testing.T, target string) []string {
	t.Helper()
	name, ok := emulators[target]
	if !ok {
		t.Fatalf("no emulator runs %s", target)
	}
	if name == "native" {
		if runtime.GOARCH != "amd64" {
			t.Skipf("this machine does not run %s", target)
		}
		return nil
	}
	for _, path := range []string{filepath.Join(os.Getenv("QEMU"), name), filepath.Join(os.Getenv("QEMU"), name+"-static"), name + "-static", name} {
		if found, err := exec.LookPath(path); err == nil {
			return []string{found}
		}
	}
	t.Skipf("%s is not here: install Debian's qemu-user-static", name)
	return nil
}

// build returns the binary of the target.
func build(t *testing.T, target string) string {
	t.Helper()
	file := "ztm-" + strings.ReplaceAll(target, "/", "-")
	if target == "windows/amd64" {
		file += ".exe"
	}
	if *binaries != "" {
		return filepath.Join(*binaries, file)
	}
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./cross", "-bare", "-only", target, "-out", out, "-version", "v0.0.0")
	cmd.Dir = "../.."
	if os.Getenv("SOURCE_DATE_EPOCH") == "" {
		cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", time.Now().Unix()))
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return filepath.Join(out, file)
}

// device runs ztm, and everything that belongs to it, in one directory.
type device struct {
	t   *testing.T
	run []string // the emulator, if any, and the binary
	env []string // that the emulator needs
	dir string

	windows bool // has no signals: what is to end is killed
}

func (d *device) command(ctx context.Context, args ...string) *exec.Cmd {
	all := append(d.run[:len(d.run):len(d.run)], args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = d.dir
	cmd.Env = append([]string{"HOME=" + d.dir, "PATH=/usr/bin:/bin"}, d.env...)
	return cmd
}

// ztm runs a command to its end and returns what it prints.
func (d *device) ztm(args ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), timeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := d.command(ctx, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("ztm %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// start starts the hub or an agent; the returned function asks it to end and waits.
func (d *device) start(name string, args ...string) (stop func()) {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd := d.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process, which stop ends
	running := true
	stop = func() {
		if !running {
			return
		}
		running = false
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil && !d.windows {
				d.t.Errorf("%s ended with %v", name, err)
			}
		case <-time.After(timeout):
			cmd.Process.Kill()
			<-ended
			d.t.Errorf("%s did not end", name)
		}
		if d.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			d.t.Logf("log of %s:\n%s", name, text)
		}
	}
	d.t.Cleanup(stop)
	return stop
}

// await looks until ok says yes.
func (d *device) await(what string, ok func() bool) {
	d.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); !ok(); <-tick.C {
		if time.Now().After(end) {
			d.t.Fatalf("waited %v in vain: %s", timeout, what)
		}
	}
}

func (d *device) answers(data string) func() bool {
	return func() bool {
		ctx, cancel := context.WithTimeout(d.t.Context(), timeout)
		defer cancel()
		return d.command(ctx, "get", "mesh", "--data", data).Run() == nil
	}
}

// scenario is what a person would do first, and then what a device must survive.
func (d *device) scenario() {
	t, began := d.t, time.Now()
	t.Logf("%s", strings.Join(strings.Fields(d.ztm("version")), " "))
	hub, tcpIn, udpIn := freeAddress(t), freeAddress(t), freeAddress(t)
	d.start("hub", "run", "hub", "--data", "hub", "--listen", hub, "--names", hub, "--permit", "root.json")
	d.await("the hub writes its permit", func() bool { return exists(filepath.Join(d.dir, "root.json")) })
	d.start("a", "run", "agent", "--data", "a")
	stopB := d.start("b", "run", "agent", "--data", "b")
	d.await("agent a answers", d.answers("a"))
	d.await("agent b answers", d.answers("b"))
	d.ztm("join", "demo", "--as", "alpha", "--permit", "root.json", "--data", "a")
	d.ztm("invite", "bob", "--permit", "bob.json", "--data", "a")
	d.ztm("join", "demo", "--as", "beta", "--permit", "bob.json", "--data", "b")
	t.Logf("a hub, two agents, joined: %v", time.Since(began).Round(100*time.Millisecond))

	d.ztm("tunnel", "open", "outbound", "tcp/echo", "--targets", echoTCP(t), "--users", "root", "--data", "b")
	d.ztm("tunnel", "open", "inbound", "tcp/echo", "--listen", tcpIn, "--data", "a")
	d.through(tcpIn, 1<<20)
	if !d.windows { // Wine 8 refuses what Go asks of each UDP socket: wsaioctl 10045
		d.ztm("tunnel", "open", "outbound", "udp/echo", "--targets", echoUDP(t), "--users", "root", "--data", "b")
		d.ztm("tunnel", "open", "inbound", "udp/echo", "--listen", udpIn, "--data", "a")
		d.datagram(udpIn)
	}
	t.Logf("ping: %s", lastLine(d.ztm("ping", "ep", "beta", "--data", "a")))

	// Everything that B knows is in its database now, written and mapped by the emulated processor.
	stopB()
	d.start("b", "run", "agent", "--data", "b")
	d.await("agent b answers again", d.answers("b"))
	d.await("the tunnel is back", func() bool { return roundTrip(tcpIn, []byte("again")) == nil })
	d.ztm("evict", "bob", "--data", "a")
	d.await("an evicted peer is cut off", func() bool { return roundTrip(tcpIn, []byte("once more")) != nil })
	t.Logf("everything: %v", time.Since(began).Round(100*time.Millisecond))
}

// through sends so many bytes through the tunnel, ends its own direction, and reads all of them back.
func (d *device) through(address string, size int) {
	d.t.Helper()
	data := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(data)
	began := time.Now()
	if err := roundTrip(address, data); err != nil {
		d.t.Fatalf("through the tunnel: %v", err)
	}
	d.t.Logf("%d bytes there and back, half-closed: %v", size, time.Since(began).Round(time.Millisecond))
}

func roundTrip(address string, data []byte) error {
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	sent := make(chan error, 1)
	go func() { // ends by the deadline at the latest; awaited below
		_, err := c.Write(data)
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	back, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(back, data) {
		err = fmt.Errorf("%d of %d bytes came back, or others", len(back), len(data))
	}
	if err != nil {
		c.Close()
	}
	if serr := <-sent; err == nil {
		err = serr
	}
	return err
}

// datagram sends a large datagram until it comes back: the first may be lost while the way is made.
func (d *device) datagram(address string) {
	d.t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	data := bytes.Repeat([]byte("datagram"), 5000)
	back := make([]byte, 64<<10)
	d.await("a datagram of 40000 bytes comes back", func() bool {
		c.Write(data)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := c.Read(back)
		return err == nil && bytes.Equal(back[:n], data)
	})
}

// freeAddress is an address that nobody listens on. Nobody else gets it before the test ends.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, release, err := freeport.Lease(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// echoTCP is a service that sends back what it gets.
func echoTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func echoUDP(t *testing.T) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() { // ends with the socket
		buf := make([]byte, 64<<10)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			p.WriteTo(buf[:n], from)
		}
	}()
	return p.LocalAddr().String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
