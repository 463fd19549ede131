package hub

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ztm/tunnel"
)

// BenchmarkIdleAgents measures what an agent costs a hub that is a process of its own: with -benchtime 10000x the hub
// has ten thousand.
func BenchmarkIdleAgents(b *testing.B) {
	dir := b.TempDir()
	p := runHub(b, "--data", dir, "--listen", "127.0.0.1:0", "--names", "hub.test:1", "--max-agents", "100000")
	h := p.as(p.address(), filepath.Join(dir, "root.json"))
	before := p.resident()
	devices := make([]*device, b.N)
	for i := range devices {
		devices[i] = h.device(fmt.Sprint("user", i%50))
	}
	sessions := make(chan *tunnel.Session, b.N)
	next := make(chan int)
	ctx, cancel := context.WithCancel(b.Context())
	var dialers, streams sync.WaitGroup
	b.ResetTimer()
	for range 32 {
		dialers.Go(func() {
			for i := range next {
				d := devices[i]
				s, err := d.dial()
				if err == nil {
					err = d.put(s, d.record(fmt.Sprint("endpoint-", i)))
				}
				if err != nil {
					b.Error(err)
					continue
				}
				sessions <- s
				ready := make(chan struct{})
				streams.Go(func() {
					s.Events(ctx, func(e tunnel.Event) {
						if e.Type == tunnel.EventReady {
							close(ready)
						}
					})
				})
				<-ready
			}
		})
	}
	for i := range b.N {
		next <- i
	}
	close(next)
	dialers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(p.resident()-before)/float64(b.N), "resident-bytes/agent")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "agents/s")
	cancel()
	close(sessions)
	for s := range sessions {
		s.Close()
	}
	streams.Wait()
}

// resident returns the resident memory of the process, in bytes.
func (p *hubProcess) resident() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		p.t.Skip("this system does not tell the memory of a process")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
