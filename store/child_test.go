package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"ztm/apps/appstest"
)

// The test binary is the other process, too: these variables tell it what to do.
const (
	childJob  = "STORE_TEST_JOB"  // "hold" or "count"
	childKind = "STORE_TEST_KIND" // name of one of kinds
	childPath = "STORE_TEST_PATH"
)

// counts are two counters that each update moves together.
var counts = NewTable[int]("counts")

// runChild opens the database, says so, does its job until its input ends, and returns its exit
// status.
func runChild() int {
	sys := kinds[0].sys
	if os.Getenv(childKind) == kinds[1].name {
		sys = kinds[1].sys
	}
	db, err := open(os.Getenv(childPath), nil, Options{}, sys)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer db.Close()
	fmt.Println("open")
	if os.Getenv(childJob) == "count" {
		if err := count(db); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// count moves the counters on for ever, and reports each update that was said to be on disk.
func count(db *DB) error {
	for {
		var n int
		err := db.Update(func(tx *Tx) (err error) {
			if n, _, err = counts.Get(tx, "a"); err != nil {
				return err
			}
			n++
			filler := strings.Repeat("x", n*37%9000) // moves pages around
			return errors.Join(counts.Put(tx, "a", n), counts.Put(tx, "b", n), users.Put(tx, strconv.Itoa(n%7), user{Name: filler}))
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// startChild starts the other process and returns what it says, beginning with "open".
func startChild(t *testing.T, job, kind, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childJob+"="+job, childKind+"="+kind, childPath+"="+path)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func TestFileInUseByAnotherProcessIsRefused(t *testing.T) {
	for _, theirs := range kinds {
		forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
			path := filepath.Join(t.TempDir(), "agent.db")
			cmd, says := startChild(t, "hold", theirs.name, path)
			if !says.Scan() {
				t.Fatal("the other process did not open the database")
			}
			_, err := open(path)
			if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another hub or agent is using "+path) {
				t.Errorf("err is %v", err)
			}
			cmd.Process.Kill()
			cmd.Wait()
			put(t, must(t)(open(path)), "bob", user{})
		})
	}
}

func TestFileStaysLockedWhileItIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	cmd, says := startChild(t, "count", "mirrored", path)
	for range 3 {
		if !says.Scan() {
			t.Fatal("the other process ended")
		}
	}
	drained := make(chan struct{})
	go func() { // awaited below
		defer close(drained)
		for says.Scan() {
		}
	}()
	for _, k := range kinds {
		if _, err := open(path, nil, Options{LockTimeout: 200 * time.Millisecond}, k.sys); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: err is %v", k.name, err)
		}
	}
	cmd.Process.Kill()
	<-drained
	cmd.Wait()
}

// A process killed in the middle of its updates leaves the state of the last one that returned, or
// of the next.
func TestKilledWriterLeavesAWholeState(t *testing.T) {
	appstest.Long(t)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.db")
			rounds, r := 25, rand.New(rand.NewPCG(1, 2))
			if testing.Short() {
				rounds = 5
			}
			for range rounds {
				before := counters(t, path, k.sys)
				last := killAfter(t, k.name, path, 1+r.IntN(12))
				after := counters(t, path, k.sys)
				if after < last || after < before {
					t.Fatalf("the last update that returned was %d, the file says %d", last, after)
				}
				if left := list(t, filepath.Dir(path)); len(left) != 1 {
					t.Fatalf("after opening, the directory holds %v", left)
				}
			}
		})
	}
}

// killAfter kills a counting process after n updates and returns the last count that it reported.
func killAfter(t *testing.T, kind, path string, n int) (last int) {
	t.Helper()
	cmd, says := startChild(t, "count", kind, path)
	for i := 0; says.Scan(); i++ {
		if c, err := strconv.Atoi(says.Text()); err == nil {
			last = c
		}
		if i == n {
			cmd.Process.Kill() // what was reported before it dies is still read
		}
	}
	cmd.Wait()
	return last
}

// counters returns the counters in the file, which must be equal.
func counters(t *testing.T, path string, sys system) int {
	t.Helper()
	db, err := open(path, nil, Options{}, sys)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var a, b int
	err = db.View(func(tx *Tx) error {
		var errA, errB error
		a, _, errA = counts.Get(tx, "a")
		b, _, errB = counts.Get(tx, "b")
		return errors.Join(errA, errB)
	})
	if err != nil || a != b {
		t.Fatalf("half an update: %d and %d, %v", a, b, err)
	}
	return a
}
