package run

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"ztm/apps"
	"ztm/apps/external/confine"
	"ztm/apps/listen"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
)

// defaultGrace is what a program has to end after SIGTERM.
const defaultGrace = 5 * time.Second

// Limits of the door that a program asks at.
const (
	headerTimeout = 10 * time.Second
	maxHeader     = 64 << 10

	maxConnections = 128 // of all processes of the program; each is a descriptor of the agent
)

// proc is a program that runs.
type proc struct {
	pid       int
	since     time.Time
	means     confine.Means
	from      Spec
	autostart bool
	socket    string // where it accepts
	dir       string // of its sockets
	cage      string // its cgroup, "" for none
	grace     time.Duration
	server    *http.Server
	ended     chan string   // gets how it ended, once all of it has
	done      chan struct{} // closed when the runner has let it go
	killed    string        // why the agent killed it; written before its end

	// guarded by the mutex of the runner
	flows  int
	idle   *time.Timer
	ending bool   // it was told to end
	why    string // it was told to
}

func (p *proc) enterLocked() {
	p.flows++
	if p.idle != nil {
		p.idle.Stop()
		p.idle = nil
	}
}

// wait returns how the program ended.
func (p *proc) wait() string {
	how := <-p.ended
	p.server.Close()
	os.RemoveAll(p.dir)
	return how
}

// stop asks the program to end, and ends it.
func (p *proc) stop() {
	terminate(p.pid)
	late := time.NewTimer(p.grace)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		killAll(p.pid)
	}
}

// launch starts the program.
func (r *Runner) launch() (*proc, error) {
	if err := confine.Startable(); err != nil {
		return nil, answer.Errorf(answer.Unavailable, "%v", err)
	}
	spec, err := r.config.Spec()
	if err != nil {
		return nil, err
	}
	words, ok := spec.Manifest.Program(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return nil, answer.Errorf(answer.Unavailable, "the app %s has nothing for %s/%s", r.id, runtime.GOOS, runtime.GOARCH)
	}
	if err := r.within(spec); err != nil {
		return nil, err
	}
	means, err := r.group.find()
	if err != nil && !spec.Unconfined {
		return nil, answer.Errorf(answer.Unavailable, "%v; its owner can let it run all the same, with all that this account may: --unconfined", err)
	}
	if err != nil {
		r.config.Log.Warn("app runs unconfined", "app", r.id, "err", err)
	}
	o := confine.Order{
		Path: filepath.Join(spec.Dir, filepath.FromSlash(words[0])), Args: words, Dir: spec.Dir, Data: spec.Data,
		Net: spec.Manifest.Rights.Net != "", Exec: spec.Manifest.Rights.Exec,
		Memory: spec.Manifest.Rights.MemoryLimit(), Processes: spec.Manifest.Rights.ProcessLimit(), Means: means,
	}
	if means.Root == "root" {
		o.UID = confine.Account(r.group.mesh, r.id)
	}
	p := &proc{means: means, from: spec, grace: r.group.grace, autostart: spec.Manifest.Rights.Autostart, ended: make(chan string, 1), done: make(chan struct{})}
	p.cage = newCage(r.group.cgroup(), spec.Manifest.Rights)
	o.Cgroup = p.cage
	if err := r.begin(p, &o); err != nil {
		os.RemoveAll(p.dir)
		closeCage(p.cage, spec.Manifest.Rights)
		return nil, answer.Errorf(answer.Unavailable, "the app %s cannot be started: %v", r.id, err)
	}
	r.group.warden.watch(p.pid)
	r.config.Log.Info("app started", "app", r.id, "version", spec.Manifest.Version, "pid", p.pid, "confined", fmt.Sprint(means))
	return p, nil
}

// begin makes the sockets of a program and starts it.
func (r *Runner) begin(p *proc, o *confine.Order) error {
	if err := p.place(o); err != nil {
		return err
	}
	accept, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		return err
	}
	accept.SetUnlinkOnClose(false) // the program has it
	defer accept.Close()
	api, err := listenAPI(o)
	if err != nil {
		return err
	}
	p.server = &http.Server{Handler: r.config.API, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(r.config.Log.Handler(), slog.LevelDebug), ConnState: limit.Connections(maxConnections)}
	go p.server.Serve(api) // ends when the server is closed
	if err := r.execute(p, o, accept); err != nil {
		p.server.Close()
		return err
	}
	return nil
}

// place makes the directories of a program and its environment.
func (p *proc) place(o *confine.Order) error {
	p.dir = filepath.Join(os.TempDir(), socketsPrefix+rand.Text())
	p.socket = filepath.Join(p.dir, "in")
	o.Sockets, o.Scratch = filepath.Join(p.dir, "api"), filepath.Join(p.dir, "root")
	err := errors.Join(os.Mkdir(p.dir, 0o700), os.Mkdir(o.Sockets, 0o711), os.Mkdir(o.Scratch, 0o700), os.MkdirAll(o.Data, 0o700))
	if err == nil && o.UID != 0 {
		err = own(o.Data, int(o.UID))
	}
	o.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LANG=C.UTF-8", "HOME=" + o.Data, "TMPDIR=" + o.Data,
		"LISTEN_FDS=1", "LISTEN_FDNAMES=ztm", "ZTM_DATA=" + o.Data, "ZTM_API=" + apiSocket(p.dir)}
	return err
}

// listenAPI opens the socket that the program asks at.
func listenAPI(o *confine.Order) (net.Listener, error) {
	path := apiSocket(filepath.Dir(o.Sockets))
	l, err := listen.Unix(context.Background(), path)
	if err != nil || o.UID == 0 {
		return l, err
	}
	if err := os.Chown(path, int(o.UID), int(o.UID)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// execute starts the process, on a thread that waits for it: a process dies with the thread that
// started it.
func (r *Runner) execute(p *proc, o *confine.Order, accept *net.UnixListener) error {
	socket, err := accept.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	started := make(chan error, 1)
	go func() { // ends with the program
		runtime.LockOSThread() // and the thread with it
		process, err := confine.Start(*o, []*os.File{null, in, in, socket})
		if err == nil {
			p.pid, p.since = process.Pid, time.Now()
		}
		started <- err
		if err == nil {
			p.ended <- r.await(p, process)
		}
	}()
	if err := <-started; err != nil {
		out.Close()
		return err
	}
	go func() { // ends when all of the program has
		defer out.Close()
		r.ring.take(out)
	}()
	return nil
}

// await waits for the end of a program, ends what it left, and returns how it ended.
func (r *Runner) await(p *proc, process *os.Process) string {
	stop := r.guard(p)
	state, err := awaitEnd(process, func() { stop(); killAll(process.Pid) })
	r.group.warden.forget(process.Pid)
	if why := cmp.Or(p.killed, closeCage(p.cage, p.from.Manifest.Rights)); why != "" {
		return why
	}
	if err != nil {
		return err.Error()
	}
	how := state.String()
	if text, _, _ := r.ring.since(0); len(text) > 0 && !state.Success() {
		how += ", it wrote: " + lastLine(text)
	}
	return how
}

// lastLine returns the last line that is not empty, of at most 200 bytes.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	line := lines[len(lines)-1]
	const most = 200
	return apps.Printable(line[:min(len(line), most)])
}
