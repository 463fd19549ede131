package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"ztm/apps/external"
	processes "ztm/apps/process/session"
)

// BenchmarkBeside is a ping-pong through a tunnel, alone and beside an app that does harm with as many threads as
// there are processors: `go test -run '^$' -bench Beside .`. The harm has to go on to the end: harm-% is how much of a
// processor it took.
func BenchmarkBeside(b *testing.B) {
	w, open := appWorld(b)
	for _, kind := range []string{"alone", "spin", "flood", "allocate", "bomb"} {
		w.ztm("second", "app", "call", "echoing", "/harm/"+kind)
		pid := w.programOf("echoing")
		b.Run(kind, func(b *testing.B) {
			c := open("tunnel/tcp/echo")
			defer c.Close()
			one := []byte{1}
			begun, took := time.Now(), processorTime(b, pid)
			timed(b, func() {
				if _, err := c.Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, one); err != nil {
					b.Fatal(err)
				}
			})
			b.ReportMetric(100*float64(processorTime(b, pid)-took)/float64(time.Since(begun)), "harm-%")
			if now := w.programOf("echoing"); now != pid {
				b.Fatalf("the app has ended, so that there was no harm all the time: process %d, now %d", pid, now)
			}
		})
		w.ztm("second", "app", "restart", "echoing")
	}
}

// programOf returns the process of an app at the endpoint "second", 0 for none.
func (w *world) programOf(name string) int {
	var all []external.Shown
	if err := json.Unmarshal([]byte(w.ztm("second", "get", "app", "-o", "json")), &all); err != nil {
		w.t.Fatal(err)
	}
	for _, a := range all {
		if a.Manifest.Name == name {
			return a.Status.PID
		}
	}
	return 0
}

// processorTime returns what the processes of a session, and those that they have waited for, have taken of the
// processors.
func processorTime(b *testing.B, sid int) (all time.Duration) {
	members, err := processes.Members(sid)
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range members {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		const first, tick = 11, 10 * time.Millisecond // proc(5): utime, the 14th of all
		for _, field := range strings.Fields(rest)[first : first+4] {
			n, _ := strconv.Atoi(field)
			all += time.Duration(n) * tick
		}
	}
	return all
}
