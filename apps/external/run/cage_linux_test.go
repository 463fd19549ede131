package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"ztm/apps/external/manifest"
)

// service makes the tree of cgroups of a service, as systemd does.
func service(t *testing.T, procs, own string) (root, file string) {
	t.Helper()
	root, file = t.TempDir(), filepath.Join(t.TempDir(), "cgroup")
	unit := filepath.Join(root, "system.slice", "ztm.service")
	if err := os.MkdirAll(filepath.Join(unit, "agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{filepath.Join(unit, "cgroup.procs"): procs, filepath.Join(root, "system.slice", "cgroup.procs"): "", file: own} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root, file
}

func TestAnAgentMakesGroupsWhereItWasGivenAPartOfTheTreeAndNowhereElse(t *testing.T) {
	for name, tt := range map[string]struct {
		procs, own string
		is         bool
	}{
		"it is in a group below":   {"", "0::/system.slice/ztm.service/agent\n", true},
		"beside the old version":   {"", "12:memory:/x\n0::/system.slice/ztm.service/agent\n", true},
		"it is in the unit itself": {"7\n", "0::/system.slice/ztm.service\n", false},
		"others are in the unit":   {"7\n", "0::/system.slice/ztm.service/agent\n", false},
		"the old version alone":    {"", "12:memory:/system.slice/ztm.service/agent\n", false},
		"at the root":              {"", "0::/\n", false},
		"elsewhere":                {"", "0::/../../etc/agent\n", false},
	} {
		root, own := service(t, tt.procs, tt.own)
		unit := filepath.Join(root, "system.slice", "ztm.service")
		got := given(root, own, func(dir string) bool { return dir == unit })
		if want := map[bool]string{true: unit}[tt.is]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	root, own := service(t, "", "0::/system.slice/ztm.service/agent\n")
	if got := given(root, own, delegated); got != "" {
		t.Errorf("a directory that nobody has delegated: %q", got)
	}
}

func TestTheGroupsThatAnAgentHasMadeStayWhenItLooksForAnotherMesh(t *testing.T) {
	root, own := service(t, "", "0::/system.slice/ztm.service/agent\n")
	yes := func(string) bool { return true }
	dir := given(root, own, yes)
	left := filepath.Join(dir, "app-0-left")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, filepath.Base(newCage(dir, manifest.Rights{})))
	for _, file := range []string{"memory.max", "memory.oom.group", "pids.max", "memory.swap.max"} {
		os.Remove(filepath.Join(fresh, file)) // a real one can be removed with them in it
	}
	given(root, own, yes)
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("a group that nobody has entered yet: %v", err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("a group of an agent that was killed stays")
	}
}

func TestWhatIsInAGroupEndsWithTheProgram(t *testing.T) {
	cage := newCage(t.TempDir(), manifest.Rights{})
	kill := filepath.Join(cage, "cgroup.kill")
	if err := os.WriteFile(kill, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closeCage(cage, manifest.Rights{})
	if got, err := os.ReadFile(kill); err != nil || string(got) != "1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAGroupIsRemovedOnceItIsEmptyAndIsNotWaitedForForever(t *testing.T) {
	for name, tt := range map[string]struct {
		busy  int // times that it has processes
		then  error
		tries int
	}{
		"empty at once":     {0, nil, 1},
		"empty after a few": {3, nil, 4},
		"gone":              {0, unix.ENOENT, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			untilEmpty(func() error {
				if tries++; tries <= tt.busy {
					return &os.PathError{Op: "remove", Path: "group", Err: unix.EBUSY}
				}
				return tt.then
			})
			if tries != tt.tries {
				t.Errorf("%s: %d attempts, want %d", name, tries, tt.tries)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		untilEmpty(func() error { return unix.EBUSY })
		if took := time.Since(begin); took != emptying {
			t.Errorf("one that is never empty was waited for %v, want %v", took, emptying)
		}
	})
}

func TestAnAppHasAGroupWithItsLimitsUntilItEnds(t *testing.T) {
	dir, rights := t.TempDir(), manifest.Rights{Memory: 1 << 20, Processes: 5}
	cage := newCage(dir, rights)
	for file, want := range map[string]string{"memory.max": "4194304", "memory.oom.group": "1", "pids.max": "21", "memory.swap.max": "0"} {
		if got, err := os.ReadFile(filepath.Join(cage, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	for events, want := range map[string]string{"oom 1\noom_kill 0\n": "", "oom 1\noom_kill 2\noom_group_kill 1\n": "more than 4 MB together",
		"max 0\noom 0\noom_kill 1\n": "memory was short"} {
		if err := os.WriteFile(filepath.Join(cage, "memory.events"), []byte(events), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := closeCage(cage, rights); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("after %q: %q", events, got)
		}
	}
	if cage := newCage(filepath.Join(dir, "none"), rights); cage != "" {
		t.Errorf("a group in a directory that is not there: %q", cage)
	}
}
