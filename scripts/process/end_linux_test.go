package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleepUntilTheEnd is the command of a script: it starts a program in a directory, and prints its process ID.
func sleepUntilTheEnd(ctx context.Context, args []string) error {
	g := Group{Dir: args[1]}
	p, err := g.Start("sleep", "sleep", "1000")
	if err != nil {
		return err
	}
	defer g.End(time.Minute)
	fmt.Println(p.Pid())
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatAScriptHasStartedEndsWithItAndHoldsNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for s, status := range map[syscall.Signal]int{syscall.SIGTERM: 1, syscall.SIGKILL: -1} {
		t.Run(s.String(), func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			script := exec.Command(self, "be-a-script", t.TempDir())
			script.ExtraFiles = []*os.File{w} // its programs have that, too, as they have the lock of flock(1)
			out, err := script.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			err = script.Start()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			pid, _ := strconv.Atoi(strings.TrimSpace(line))
			script.Process.Signal(s)
			script.Wait()
			if got := script.ProcessState.ExitCode(); err != nil || got != status {
				t.Errorf("%v; the script's exit status is %d, want %d", err, got, status)
			}
			r.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.ReadAll(r); err != nil {
				t.Errorf("the program of the script goes on: %v", err)
				if pid > 1 {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		})
	}
}
