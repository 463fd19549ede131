package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is a process that says the time, and a script, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "say-the-time" {
		for range time.Tick(10 * time.Millisecond) {
			fmt.Println(time.Now().Unix())
		}
	}
	if len(os.Args) > 1 && os.Args[1] == "be-a-script" {
		os.Exit(Main("script", sleepUntilTheEnd))
	}
	os.Exit(m.Run())
}

func TestTheClockOfARunningProcessIsSetAndSetBack(t *testing.T) {
	if !CanSetClocks() {
		t.Skip("not on this machine")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	group := Group{Dir: t.TempDir()}
	p, err := group.Start("clock", self, "say-the-time")
	if err != nil {
		t.Fatal(err)
	}
	defer group.End(time.Minute)
	if err := SetClock(p, 0); errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EIO) {
		t.Skip("the system lets nobody write there: ", err)
	}
	for _, ahead := range []time.Duration{0, 400 * 24 * time.Hour, -time.Hour, 0} {
		if err := SetClock(p, ahead); err != nil {
			t.Fatalf("%v: %v", ahead, err)
		}
		before, err := p.Output()
		if err != nil {
			t.Fatal(err)
		}
		err = Until(context.Background(), fmt.Sprint("a clock that is ahead by ", ahead), time.Minute, func() error {
			out, err := p.Output()
			if err != nil {
				return err
			}
			lines := strings.Split(string(out[len(before):]), "\n")
			if len(lines) < 3 { // the first may be older, or a part, and the last may be
				return fmt.Errorf("it is silent")
			}
			said, err := strconv.ParseInt(lines[len(lines)-2], 10, 64)
			if off := time.Until(time.Unix(said, 0).Add(-ahead)).Abs(); err == nil && off > 30*time.Minute {
				err = fmt.Errorf("it is off by %v", off)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
