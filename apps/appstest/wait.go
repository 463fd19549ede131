package appstest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Timeout is how long a test waits for what must happen, on a machine that has much else to do.
const Timeout = 90 * time.Second

// Eventually waits until something holds, and fails the test if that takes longer than [Timeout].
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	late := time.After(Timeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-late:
			t.Fatalf("not within %v: %s", Timeout, what)
		case <-tick.C:
		}
	}
}

// Buffer is a [bytes.Buffer] that may be read while it is written: the log of an endpoint. The zero
// value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Count returns how many lines of a text log have the level. What a line says is for people, and
// may change.
func (b *Buffer) Count(level slog.Level) int {
	return strings.Count(b.String(), "level="+level.String()+" ")
}

// Watched is a [Buffer] that does something when a text is in it. Its fields are set before use.
type Watched struct {
	Buffer
	Text string
	Do   func() // called once, in a goroutine of its own

	once sync.Once
}

func (w *Watched) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.Text) {
		w.once.Do(func() { go w.Do() })
	}
	return n, err
}

// Long leaves a test out of `go test -short`: one that makes a whole mesh, computes much, moves much
// through other programs, or waits for time to pass.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}
