package process

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"ztm/tunnel/answer"
)

var signalNames = map[os.Signal]string{
	os.Interrupt: "INT", syscall.SIGTERM: "TERM", syscall.SIGHUP: "HUP", syscall.SIGQUIT: "QUIT",
}

// Caught calls f with the name of each signal that would end this command, until stop is called.
// stop waits for f and may be called again. Signals that are ignored, for example under nohup(1),
// stay ignored.
func Caught(f func(name string)) (stop func()) {
	signals := make(chan os.Signal, 2) // full: two signals are enough; never closed
	ended := make(chan struct{})
	if heard := slices.DeleteFunc(slices.Clone(ending), signal.Ignored); len(heard) > 0 {
		signal.Notify(signals, heard...)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case s := <-signals:
				f(signalNames[s])
			case <-ended:
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		signal.Stop(signals)
		close(ended)
		running.Wait()
	})
}

// The status of this command where a program gave none, as of ssh(1) and of sh(1).
const (
	StatusLost     = 255 // the connection was lost
	StatusNotFound = 127 // there is no such program
	StatusDenied   = 126 // it may not be run
)

// Outcome returns the exit status for what [Drive] returned, and a message for a person, which may
// be empty. where is the name of the endpoint.
func Outcome(e Exit, err error, where string) (status int, text string) {
	var public *answer.Error
	switch {
	case errors.Is(err, ErrLost):
		return StatusLost, fmt.Sprintf("the connection to %s was lost", where)
	case errors.As(err, &public) && public.Code == answer.NotFound:
		return StatusNotFound, public.Message
	case errors.As(err, &public) && public.Code == answer.Denied:
		return StatusDenied, public.Message
	case err != nil:
		return 1, err.Error()
	case e.Reason != "":
		return e.Status, fmt.Sprintf("%s ended this: %s", where, e.Reason)
	}
	return e.Status, ""
}
