//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const gigabyte = 1 << 30

// TestGigabyte: 1 GB goes through client, A, hub, B and server, each way, and is the same at the end; the hub's own
// code has next to nothing to do with it.
func TestGigabyte(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	bob := m.addAgent("ep-bob", "bob")
	sums := make(chan string, 2)
	s := serve(t, func(c *net.TCPConn) {
		got, n, err := sumOf(c)
		sums <- fmt.Sprintln(got, n, err)
		sums <- send(c, "download")
	})
	c := dial(t, m.root.tunnel("bulk", bob, s.address()))

	measure := hubWork(m)
	sent := send(c, "upload")
	if got := <-sums; got != sent {
		t.Errorf("upload: the server got %s the client sent %s", got, sent)
	}
	measure(t, "upload")

	measure = hubWork(m)
	got, n, err := sumOf(c)
	if got, sent := fmt.Sprintln(got, n, err), <-sums; got != sent {
		t.Errorf("download: the client got %s the server sent %s", got, sent)
	}
	measure(t, "download")
	t.Logf("resident: hub %d MB, A %d MB, B %d MB", m.hub.rss()>>20, m.root.rss()>>20, bob.rss()>>20)
}

// send sends 1 GB, ends what it sends, and says what it was.
func send(c *net.TCPConn, seed string) string {
	h := sha256.New()
	n, err := copyTo(io.MultiWriter(c, h), stream(seed, gigabyte))
	if err == nil {
		err = c.CloseWrite()
	}
	return fmt.Sprintln(hexSum(h), n, err)
}

// maxRelayWork is how much time the hub's own code may take for a gigabyte. To decrypt it and encrypt it again would take
// most of a second.
const maxRelayWork = 150 * time.Millisecond

// hubWork begins to measure what the hub does for one gigabyte.
func hubWork(m *mesh) (end func(testing.TB, string)) {
	user, system := m.hub.cpu()
	start := time.Now()
	return func(t testing.TB, what string) {
		t.Helper()
		u, s := m.hub.cpu()
		u, s = u-user, s-system
		took := time.Since(start)
		t.Logf("%s: 1 GB in %v; hub: user %v, system %v", what, took.Round(time.Millisecond), u, s)
		if u > maxRelayWork {
			t.Errorf("%s: the hub's own code took %v for 1 GB, want at most %v", what, u, maxRelayWork)
		}
	}
}

// TestHubSeesNothing: neither what passes between the agents and the hub nor the hub's memory has anything of what the
// clients say; and the names in the mesh do not pass in the clear.
func TestHubSeesNothing(t *testing.T) {
	t.Parallel()
	const (
		user, endpoint, tunnel = "captured-user", "captured-endpoint", "captured-tunnel"
		size                   = 64 << 20
	)
	marker := string(random(t, "marker", 16))
	listen := loopback(freePort(t))
	wire := tap(t, listen, marker, user, endpoint, tunnel)
	m := newMesh(t, options{listen: listen, names: wire.address()})
	exit := m.addAgent(endpoint, user)

	// The server sends back what it gets: the marker passes in both directions.
	entrance := m.root.tunnel(tunnel, exit, echoes(t).address())
	outside := tap(t, entrance, marker) // the same eyes where there is something to see
	c := dial(t, outside.address())
	chunk := []byte(strings.Repeat(marker, 4096))
	sent := make(chan error, 1)
	go func() { // ends with c, at the latest
		for range size / len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				sent <- err
				return
			}
		}
		sent <- c.CloseWrite()
	}()
	if _, err := io.CopyN(io.Discard, c, size/2); err != nil {
		t.Fatal(err)
	}
	// In the middle of it. The agents hold the plaintext: the search does find what is there.
	if n := inMemory(t, m.root.process, marker); n == 0 {
		t.Error("the marker is not in the entrance's memory: the search is broken")
	}
	if n := inMemory(t, m.hub, marker); n > 0 {
		t.Errorf("the marker is %d times in the hub's memory", n)
	}
	rest, err := io.Copy(io.Discard, c)
	if err != nil || <-sent != nil || rest != size-size/2 {
		t.Fatalf("%d of %d bytes came back: %v", size/2+rest, size, err)
	}

	if outside.found(marker) == 0 {
		t.Error("the marker did not pass where it had to: the search is broken")
	}
	if wire.bytes.Load() < 4*size { // two directions, two agents
		t.Errorf("%d bytes passed between agents and hub, want at least %d", wire.bytes.Load(), 4*size)
	}
	for _, word := range []string{marker, user, endpoint, tunnel} {
		if n := wire.found(word); n > 0 {
			t.Errorf("%q passed %d times between agents and hub", word, n)
		}
	}
}

// wiretap passes connections on to an address and looks for words in what passes.
type wiretap struct {
	*server
	words []string
	bytes atomic.Int64

	mu   sync.Mutex
	hits map[string]int
}

func tap(t testing.TB, address string, words ...string) *wiretap {
	w := &wiretap{words: words, hits: map[string]int{}}
	w.server = serve(t, func(c *net.TCPConn) { w.pass(c, address) })
	return w
}

// pass joins a connection with a new one to address. Half-close is passed on; a connection that fails takes the other
// with it.
func (w *wiretap) pass(c *net.TCPConn, address string) {
	d, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer d.Close()
	one := func(to, from *net.TCPConn) {
		if _, err := io.CopyBuffer(to, &eyes{Reader: from, tap: w}, make([]byte, 128<<10)); err != nil {
			to.Close()
			from.Close()
			return
		}
		to.CloseWrite()
	}
	var wg sync.WaitGroup
	wg.Go(func() { one(d.(*net.TCPConn), c) })
	one(c, d.(*net.TCPConn))
	wg.Wait()
}

func (w *wiretap) found(word string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits[word]
}

// eyes is a reader that is watched. A word that begins in one read and ends in the next is seen, too.
type eyes struct {
	io.Reader
	tap  *wiretap
	last []byte
}

func (e *eyes) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.tap.bytes.Add(int64(n))
	seen := append(e.last, p[:n]...)
	keep := 0
	for _, word := range e.tap.words {
		if hits := bytes.Count(seen, []byte(word)); hits > 0 {
			e.tap.mu.Lock()
			e.tap.hits[word] += hits
			e.tap.mu.Unlock()
		}
		keep = max(keep, len(word)-1)
	}
	e.last = append([]byte(nil), seen[max(0, len(seen)-keep):]...)
	return n, err
}

// inMemory counts a word in the memory of a process that it can write to.
func inMemory(t testing.TB, p *process, word string) (n int) {
	t.Helper()
	maps, err := os.ReadFile(p.proc("maps"))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(p.proc("mem"))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		b, err := io.ReadAll(io.NewSectionReader(mem, from, to-from))
		if err != nil && len(b) == 0 {
			continue // reserved, not there
		}
		n += bytes.Count(b, []byte(word))
	}
	return n
}
