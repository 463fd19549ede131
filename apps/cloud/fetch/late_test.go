package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/wire"
	"ztm/tunnel/identity"
)

// buffer is a file in memory.
type buffer struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

func (f *buffer) ReadAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.NewReader(f.b).ReadAt(p, at)
}

func (f *buffer) WriteAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if missing := int(at) + len(p) - len(f.b); missing > 0 {
		f.b = append(f.b, make([]byte, missing)...)
	}
	return copy(f.b[at:], p), nil
}

func (f *buffer) Truncate(int64) error { return nil }

// piped is sources by pipes, of which one gives a piece of an answer each second: more than a source
// that stalls, and less than is of use.
func (s *sources) piped(slow *holder) func(context.Context, identity.ID) (net.Conn, error) {
	return func(_ context.Context, id identity.ID) (net.Conn, error) {
		near, far := pipe()
		for _, h := range s.all {
			switch {
			case h.id != id:
			case h == slow:
				asked := make(chan wire.Request, 64) // a flow holds more than is asked for at a time
				s.serving.Go(func() {
					defer close(asked)
					for r, err := wire.ReadRequest(far); err == nil; r, err = wire.ReadRequest(far) {
						asked <- r
					}
				})
				s.serving.Go(func() { h.serve(trickle{far, asked}) })
			default:
				s.serving.Go(func() { h.serve(far) })
			}
		}
		return near, nil
	}
}

// half is one end of a flow in memory, whose directions end one by one.
type half struct {
	net.Conn // nil
	*io.PipeReader
	*io.PipeWriter
}

func pipe() (near, far half) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return half{nil, r1, w2}, half{nil, r2, w1}
}

func (h half) Read(p []byte) (int, error)  { return h.PipeReader.Read(p) }
func (h half) Write(p []byte) (int, error) { return h.PipeWriter.Write(p) }
func (h half) CloseWrite() error           { return h.PipeWriter.Close() }
func (h half) Close() error                { return errors.Join(h.PipeReader.Close(), h.PipeWriter.Close()) }

type trickle struct {
	net.Conn
	asked <-chan wire.Request
}

func (c trickle) Read(p []byte) (int, error) {
	r, ok := <-c.asked
	if !ok {
		return 0, io.EOF
	}
	return copy(p, r.Append(nil)), nil
}

func (c trickle) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		<-time.After(time.Second)
		var m int
		m, err = c.Conn.Write(p[n:min(n+1<<10, len(p))])
		n += m
	}
	return n, err
}

func TestWhatASourceIsLateWithIsAskedOfAnother(t *testing.T) {
	for name, tt := range map[string]struct {
		size  int
		wrong bool          // what the late source brings
		takes time.Duration // the other one, for a block
		most  time.Duration
	}{
		"many blocks":                  {40*blocks.MinBlock + 5, false, 0, time.Minute},
		"one block":                    {blocks.MinBlock, false, 0, time.Minute},
		"what comes too late is wrong": {6 * blocks.MinBlock, true, 20 * time.Second, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := bytesOf(tt.size)
				slow, quick := newHolder("slow", file), newHolder("quick", file)
				both, once := make(chan struct{}), sync.Once{}
				slow.alter = func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
					if r.Op == wire.Block {
						once.Do(func() { close(both) })
					}
					if r.Op == wire.Block && tt.wrong {
						clear(b)
					}
					return a, b
				}
				quick.alter = func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
					if r.Op == wire.Block {
						<-both // it has left the other one something
						<-time.After(tt.takes)
					}
					return a, b
				}
				s := &sources{all: []*holder{slow, quick}}
				f := New(Config{Open: s.piped(slow)})
				to, began := &buffer{}, time.Now()
				_, err := f.Fetch(t.Context(), Want{Content: slow.c, File: to, Sources: s.ids()})
				if took := time.Since(began); err != nil || took > tt.most || !bytes.Equal(to.b, file) {
					t.Errorf("after %v: %d bytes, %v", took, len(to.b), err)
				}
				ended := time.Now()
				f.Wait()
				s.serving.Wait()
				if took := time.Since(ended); took > time.Minute {
					t.Errorf("the slow source held a flow for %v", took)
				}
			})
		})
	}
}

func TestASourceIsAskedForWhatAnotherIsLateWithOnceItOwesNothingAndTheRateAllowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolder("", bytesOf(4*blocks.MinBlock))
		f := New(Config{})
		j := f.newJob(Want{Content: h.c, List: h.list, Rate: NewRate(blocks.MinBlock)})
		link := func(name string) *link {
			l := &link{f: f, id: identity.IDOf([]byte(name)), slow: time.AfterFunc(time.Hour, func() {})}
			f.links[l.id], j.sources[l.id] = l, &source{has: h.have}
			return l
		}
		f.mu.Lock()
		late, quick := link("late"), link("quick")
		late.sendLocked(&asked{Request: wire.Request{Op: wire.Block, Content: h.c.Hash, N: 0}, j: j}, nil)
		f.mu.Unlock()
		<-time.After(f.Stall)
		own := &asked{Request: wire.Request{Op: wire.Block, Content: h.c.Hash, N: 1}, j: j}
		borrows := func(want bool, when string) {
			t.Helper()
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := len(quick.borrowLocked(nil)) > 0; got != want {
				t.Errorf("%s: %v", when, got)
			}
		}
		f.mu.Lock()
		quick.sendLocked(own, nil)
		f.mu.Unlock()
		<-time.After(2 * time.Second)
		borrows(false, "while it owes a block of its own")
		quick.answered(own)
		j.Rate.spend(blocks.MinBlock, time.Now())
		borrows(false, "while the rate is spent")
		<-time.After(time.Second)
		borrows(true, "when both are over")
	})
}

func TestASlowSourceThatAloneHasABlockIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := bytesOf(4 * blocks.MinBlock)
		slow, quick := newHolder("slow", file), newHolder("quick", file)
		quick.have.Clear(2)
		s := &sources{all: []*holder{slow, quick}}
		f := New(Config{Open: s.piped(slow)})
		to := &buffer{}
		_, err := f.Fetch(t.Context(), Want{Content: slow.c, File: to, Sources: s.ids()})
		if err != nil || !bytes.Equal(to.b, file) {
			t.Errorf("%d bytes, %v", len(to.b), err)
		}
		f.Wait()
		s.serving.Wait()
	})
}

func TestJobsOfOneRateShareIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := bytesOf(16 * blocks.MinBlock)
		h := newHolder("a", file)
		s := &sources{all: []*holder{h}}
		f := New(Config{Open: s.piped(nil)})
		rate, began := NewRate(blocks.MinBlock), time.Now()
		var jobs sync.WaitGroup
		for range 2 {
			jobs.Go(func() {
				to := &buffer{}
				if _, err := f.Fetch(t.Context(), Want{Content: h.c, File: to, Sources: s.ids(), Rate: rate}); err != nil || !bytes.Equal(to.b, file) {
					t.Errorf("%d bytes, %v", len(to.b), err)
				}
			})
		}
		free := time.Now()
		if _, err := f.Fetch(t.Context(), Want{Content: h.c, File: &buffer{}, Sources: s.ids()}); err != nil || time.Since(free) > time.Second {
			t.Errorf("a job without a rate took %v: %v", time.Since(free), err)
		}
		jobs.Wait()
		if took := time.Since(began); took < 30*time.Second || took > 34*time.Second {
			t.Errorf("32 blocks at one a second took %v", took)
		}
		f.Wait()
		s.serving.Wait()
	})
}

func TestNothingIsWokenOnceNobodyFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolder("a", bytesOf(4*blocks.MinBlock))
		s := &sources{all: []*holder{h}}
		f := New(Config{Open: s.piped(nil)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Fetch(ctx, Want{Content: h.c, File: &buffer{}, Sources: s.ids(), Rate: NewRate(1)}); err == nil {
			t.Error("it came faster than its rate")
		}
		f.Wait()
		s.serving.Wait()
		if f.alarm == nil || f.alarm.Stop() || !f.due.IsZero() {
			t.Error("a timer runs")
		}
	})
}
