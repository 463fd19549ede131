package progress

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestALineSaysHowFarHowFastAndHowLongStill(t *testing.T) {
	var out bytes.Buffer
	b := &Bar{w: &out, live: true}
	now := time.Unix(1000, 0)
	b.Show(State{Step: "fetching", Total: 100e6}, now)
	b.Show(State{Step: "fetching", Done: 50e6, Total: 100e6, Files: 3, Of: 7, Sources: 2}, now.Add(5*time.Second))
	lines := strings.Split(out.String(), "\r")
	got := strings.TrimSpace(lines[len(lines)-1])
	want := "fetching  [==========          ]  50%  50.0 MB of 100.0 MB  10.0 MB/s  0:05 left  3 of 7 files  2 sources"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if r := b.Rate(now.Add(5 * time.Second)); r != 10e6 {
		t.Errorf("the rate is %v", r)
	}
}

func TestANameCannotMoveTheCursorAndALineIsRemovedWhole(t *testing.T) {
	var out bytes.Buffer
	b := &Bar{w: &out, live: true}
	b.Show(State{Step: "fetching", Name: "x\x1b[2J\r\u202ey"}, time.Unix(1000, 0))
	if strings.ContainsAny(out.String(), "\x1b\u202e") || strings.Count(out.String(), "\r") != 1 {
		t.Errorf("%q", out.String())
	}
	b.End()
	if !strings.HasSuffix(out.String(), "\r") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	b.Say("%s", "a\x1bb")
	if out.String() != "a?b\n" {
		t.Errorf("%q", out.String())
	}
}

func TestWhereNoTerminalIsThereIsNoBar(t *testing.T) {
	var out bytes.Buffer
	b := New(&out)
	b.Show(State{Total: 5}, time.Unix(1000, 0))
	b.End()
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}

func TestAStepThatAnAgentSaysCannotMoveTheCursor(t *testing.T) {
	if got := new(Bar).line(State{Step: "go\x1b[2Jon\n"}); strings.ContainsAny(got, "\x1b\n") || !strings.Contains(got, "go?[2Jon?") {
		t.Errorf("%q", got)
	}
}
