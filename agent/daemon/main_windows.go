package daemon

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows/svc"
)

// Main runs the program. line is the command line without the program's name. If Windows has
// started the program as a service, Main reports its state to Windows, ends ctx when the service is
// stopped, and writes standard error to a log file.
func Main(ctx context.Context, line []string, stderr io.Writer, run func(context.Context, io.Writer) int) int {
	is, err := svc.IsWindowsService()
	if err != nil || !is {
		return run(ctx, stderr)
	}
	h := &handler{ctx: ctx, run: run, log: io.Discard}
	if f, err := openLog(line); err == nil {
		defer f.Close()
		h.log = f
	}
	if err := svc.Run("ztm", h); err != nil {
		return 1
	}
	return h.status
}

// openLog creates the log of this start in the data directory of the service.
func openLog(line []string) (*os.File, error) {
	role, data := "", ""
	for i, a := range line {
		if a == "run" && i+1 < len(line) {
			role = line[i+1]
		}
		if d, ok := strings.CutPrefix(a, "--data="); ok {
			data = d
		}
	}
	return os.OpenFile(filepath.Join(data, "ztm-"+role+".log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// handler implements [svc.Handler].
type handler struct {
	ctx    context.Context
	run    func(context.Context, io.Writer) int
	log    io.Writer
	status int // once Execute has returned
}

func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, states chan<- svc.Status) (bool, uint32) {
	const accepted = svc.AcceptStop | svc.AcceptShutdown
	ctx, stop := context.WithCancel(h.ctx)
	defer stop()
	ended := make(chan int, 1)
	go func() { ended <- h.run(ctx, h.log) }() // awaited below
	states <- svc.Status{State: svc.Running, Accepts: accepted}
	for {
		select {
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				states <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				states <- svc.Status{State: svc.StopPending}
				stop()
			}
		case h.status = <-ended:
			return h.status != 0, uint32(h.status)
		}
	}
}
