package memory

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyWhatIsAsInTheFileIsUnmapped(t *testing.T) {
	const smaps = `00400000-00cb9000 r-xp 00000000 fe:00 102                           /tmp/my ztm
Rss:                6884 kB
Private_Dirty:      6884 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
00cb9000-015c6000 r--p 008b9000 fe:00 102                           /tmp/my ztm
Private_Dirty:         0 kB
Anonymous:             0 kB
015c6000-015c8000 r--p 008b9000 fe:00 102                           /tmp/my ztm
Private_Dirty:         0 kB
Anonymous:             8 kB
015d6000-015d8000 r--p 008b9000 fe:00 102                           /tmp/my ztm
Anonymous:             0 kB
Swap:                  8 kB
016c6000-01788000 rw-p 011c6000 fe:00 102                           /tmp/my ztm
Anonymous:             0 kB
c6029c00000-c602a000000 rw-p 00000000 00:00 0
7f5019ff9000-7f501a01f000 r--p 00000000 fe:00 326                     /usr/lib/libc.so.6
Anonymous:             0 kB
`
	got := constants([]byte(smaps), "/tmp/my ztm")
	want := []mapping{{0x400000, 0xcb9000}, {0xcb9000, 0x15c6000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAProcessComesToRestWhereItIsQuietAndAfterWhatWasMuch(t *testing.T) {
	for name, tt := range map[string]struct{ spent, want string }{
		"an agent that starts":           {"900 10 10 10", ".r.."},
		"one that is used now and then":  {"10 80 10 300 20", "r.r.r"},
		"thousands of agents connect":    {"9000 4000 150 150 150 150", "..r..."},
		"they do so again":               {"9000 150 150 8000 150 150", ".r..r."},
		"always busy":                    {"3000 2000 3000 1000 2000", "....."},
		"little, and not only for once":  {"100 90 100 80 90 100", "......"},
		"a rest that others are part of": {"10 10 10 10", "r..."},
	} {
		var w watch
		var now time.Duration
		got := ""
		for _, ms := range strings.Fields(tt.spent) {
			spent, _ := time.ParseDuration(ms + "ms")
			if now += spent; w.comesToRest(now) {
				got += "r"
			} else {
				got += "."
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestAProcessAtRestGivesBackThePagesOfItsProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := resident(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			GiveBack(ctx)
		}()
		<-time.After(2*watched + 1) // of the bubble's clock, with which no processor time passes
		if after := resident(t); after >= before {
			t.Errorf("%d kB of the program are resident, %d before", after, before)
		}
		cancel()
		<-ended
	})
}

// resident is how much of files is in this process, in kB.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "RssFile:")
	var kB int
	if _, err := fmt.Sscanf(rest, "%d kB", &kB); err != nil {
		t.Skip("the system does not tell")
	}
	return kB
}
