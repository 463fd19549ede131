//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// outcome is how an operation ended.
type outcome string

const (
	ok      outcome = "ok"
	failed  outcome = "fail"
	unknown outcome = "unknown" // it may have happened
)

// operation is something that was done.
type operation struct {
	Kind    string    `json:"kind"`
	Args    string    `json:"args"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Outcome outcome   `json:"outcome"`
	Note    string    `json:"note,omitempty"`
}

// journal is all operations of a run, in a file, and what was wrong.
type journal struct {
	mu       sync.Mutex
	file     *os.File
	count    map[string]int // by kind and outcome
	checked  map[string]int // by invariant: how often it was looked at
	broken   map[string]int // by invariant
	violated []violation
}

// violation is an invariant that was broken.
type violation struct {
	Invariant string    `json:"invariant"`
	Time      time.Time `json:"time"`
	What      string    `json:"what"`
}

func newJournal(path string) (*journal, error) {
	f, err := os.Create(path)
	return &journal{file: f, count: map[string]int{}, checked: map[string]int{}, broken: map[string]int{}}, err
}

// add notes an operation that began at a time and has ended now.
func (j *journal) add(kind, args string, start time.Time, o outcome, note string) {
	op := operation{kind, args, start, time.Now(), o, note}
	b, err := json.Marshal(op)
	if err != nil {
		panic(err) // it is made of strings
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.count[kind+" "+string(o)]++
	j.file.Write(append(b, '\n'))
}

// check notes that an invariant was looked at, and whether it held.
func (j *journal) check(invariant string, holds bool, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.checked[invariant]++
	if !holds {
		v := violation{invariant, time.Now(), fmt.Sprintf(format, args...)}
		j.violated = append(j.violated, v)
		if j.broken[invariant]++; j.broken[invariant] <= 20 {
			fmt.Printf("chaos: %s BROKEN: %s\n", v.Invariant, v.What)
		}
	}
}

// invariants are what is checked, in words.
var invariants = [][2]string{
	{"I1", "a token is used by one key"},
	{"I2", "a name has one holder"},
	{"I3", "who was evicted is out, and no list forgets it"},
	{"I4", "there is one CA line"},
	{"I5", "in the end all hubs say the same"},
	{"I6", "a flow begins in time where there is a way"},
	{"I7", "a flow runs once"},
	{"I8", "a flow that ended well is whole"},
	{"I9", "a flow passes through what it needs and no more"},
	{"I10", "agents are spread"},
	{"I11", "nothing is left behind"},
	{"I12", "what is said to have failed did not happen"},
	{"flows", "what an accident does not touch goes on"},
}

// verdict prints what was seen, and returns an error if an invariant was broken.
func (j *journal) verdict(w io.Writer, seed uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	kinds := make([]string, 0, len(j.count))
	for k := range j.count {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		fmt.Fprintf(w, "  %7d  %s\n", j.count[k], k)
	}
	for _, i := range invariants {
		fmt.Fprintf(w, "  %-6s %-55s looked at %6d times, broken %d\n", i[0], i[1], j.checked[i[0]], j.broken[i[0]])
	}
	if n := len(j.violated); n > 0 {
		return fmt.Errorf("%d times an invariant was broken; the first is %s: %s; seed %d", n, j.violated[0].Invariant, j.violated[0].What, seed)
	}
	return nil
}
