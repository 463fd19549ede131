package run

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// WardenApplet is the name under which this binary is started to outlive the agent for a moment.
const WardenApplet = "ztm-app-warden"

// maxWatched is how many programs a warden watches.
const maxWatched = 4096

// Warden reads which programs run, "+PID" and "-PID", until the pipe from the agent ends: with the
// agent, however it ends. Then it kills what those programs started, which the kernel does not do by
// itself. It returns the status of its process.
func Warden(pipe io.Reader) int {
	watched := map[int]bool{}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		pid, err := strconv.Atoi(strings.TrimLeft(lines.Text(), "+-"))
		if err != nil || pid < 2 || len(watched) >= maxWatched {
			continue
		}
		if strings.HasPrefix(lines.Text(), "+") {
			watched[pid] = true
		} else {
			delete(watched, pid)
		}
	}
	for pid := range watched {
		killAll(pid)
	}
	return 0
}

// warden is the process of a group, from the agent's side. It runs while a program does.
type warden struct {
	mu      sync.Mutex
	pipe    *os.File     // to it; nil while none runs
	process *os.Process  // guarded by mu
	watched map[int]bool // guarded by mu
}

// watch has the warden watch a program.
func (w *warden) watch(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched == nil {
		w.watched = map[int]bool{}
	}
	w.watched[pid] = true
	if w.pipe == nil || w.tell("+", pid) != nil {
		w.endLocked()
		w.beginLocked()
	}
}

// forget is called when nothing of a program runs any longer.
func (w *warden) forget(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watched, pid)
	if len(w.watched) == 0 {
		w.endLocked()
	} else if w.pipe != nil {
		_ = w.tell("-", pid) // one that died is started with the next program
	}
}

func (w *warden) tell(sign string, pid int) error {
	_, err := fmt.Fprintf(w.pipe, "%s%d\n", sign, pid)
	return err
}

// beginLocked starts the warden. Without one a program still dies with the agent, but not what it
// started.
func (w *warden) beginLocked() {
	r, pipe, err := os.Pipe()
	if err != nil {
		return
	}
	defer r.Close()
	process, err := startWarden(r)
	if err != nil {
		pipe.Close()
		return
	}
	w.process, w.pipe = process, pipe
	for pid := range w.watched {
		_ = w.tell("+", pid) // as in watch
	}
}

// endLocked ends the warden without having it kill anything.
func (w *warden) endLocked() {
	if w.pipe == nil {
		return
	}
	w.process.Kill()
	w.pipe.Close()
	w.process.Wait()
	w.pipe, w.process = nil, nil
}

func (w *warden) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
}
