package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
)

// line is a relay between an agent and the hub that can hold what the hub says, and leave new
// connections waiting.
type line struct {
	ln      net.Listener
	running sync.WaitGroup
	gate    sync.RWMutex // held for writing while the line holds
	shut    atomic.Bool  // new connections wait until the agent gives up
	waiting atomic.Int32 // those that do
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{ln: ln}
	l.running.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			if l.shut.Load() {
				l.waiting.Add(1)
				l.running.Go(func() { io.Copy(io.Discard, near); near.Close(); l.waiting.Add(-1) })
				continue
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			l.running.Go(func() { io.Copy(far, near); far.Close(); near.Close() })
			l.running.Go(func() { io.Copy(gated{near, l}, far); far.Close(); near.Close() })
		}
	})
	t.Cleanup(func() { ln.Close(); l.running.Wait() })
	return l
}

type gated struct {
	io.Writer
	l *line
}

func (g gated) Write(p []byte) (int, error) {
	g.l.gate.RLock()
	defer g.l.gate.RUnlock()
	return g.Writer.Write(p)
}

// joinOver is join over a line, as user root.
func (w *world) joinOver(l *line, name string) {
	w.t.Helper()
	w.startAgent(name)
	permit, err := os.ReadFile(w.path("root.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name+".json", strings.ReplaceAll(string(permit), w.address, l.ln.Addr().String()))
	w.ztm(name, "join", "demo", "--as", "ep-"+name, "--permit", w.path(name+".json"))
	w.connected(name)
}

func dialTest(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(appstest.Timeout))
	return c.(*net.TCPConn)
}

func TestAnEndpointThatSleepsIsRefusedBeforeItsTicketEnds(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	l := newLine(t, w.address)
	w.joinOver(l, "far")
	l.shut.Store(true)
	l.gate.Lock()
	defer l.gate.Unlock()
	const ticket = 12 * time.Second // is good for so long: docs/protocol.md, section 5
	start := time.Now()
	_, errs, status := w.try("root", "ping", "ep", "ep-far")
	if took := time.Since(start); status != 1 || took > ticket {
		t.Errorf("after %v: status %d: %s", took, status, errs)
	}
}

func TestTheFirstBytesArriveBeforeTheAnswerOfTheExit(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	l := newLine(t, w.address)
	w.joinOver(l, "far")

	heard := make(chan string, 2)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				b := make([]byte, 5)
				io.ReadFull(c, b)
				heard <- string(b)
				c.Write(b)
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	listen := w.tunnelTo("far", "root", "web", ln.Addr().String())
	wantEcho(t, listen) // the session is warm now
	<-heard

	l.gate.Lock()
	c := dialTest(t, listen)
	_, err = io.WriteString(c, "early")
	select {
	case got := <-heard:
		if got != "early" {
			t.Errorf("the target heard %q", got)
		}
	case <-time.After(appstest.Timeout):
		t.Error("the target heard nothing while the exit's answer was on its way")
	}
	l.gate.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, " and late"); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "early and late" || err != nil {
		t.Errorf("came back: %q, %v", b, err)
	}
}

func TestAServerMaySpeakFirst(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "220 ready\n")
			io.Copy(c, c)
			c.Close()
		}
	}()
	listen := w.tunnelTo("root", "bob", "mail", ln.Addr().String(), "--users", "root")
	c := dialTest(t, listen)
	greeting := make([]byte, len("220 ready\n"))
	if _, err := io.ReadFull(c, greeting); err != nil {
		t.Fatalf("the client said nothing, and got %v", err)
	}
	if _, err := io.WriteString(c, "QUIT"); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "QUIT" || err != nil {
		t.Errorf("came back: %q, %v", b, err)
	}
}

func TestTheNextExitGetsTheSameFirstBytes(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("carol", "carol")
	w.ztm("bob", "tunnel", "open", "outbound", "tcp/web", "--targets", appstest.FreeAddress(t), "--users", "root")
	w.ztm("carol", "tunnel", "open", "outbound", "tcp/web", "--targets", echoServer(t), "--users", "root")
	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/web", "--listen", listen, "--exits", "ep-bob", "--exits", "ep-carol")
	text := strings.Repeat("0123456789", apps.EarlyLimit/5)
	for range 4 { // they take turns in being asked first
		if got, err := echo(listen, text); got != text || err != nil {
			t.Fatalf("%d bytes of %d came back, or others: %v", len(got), len(text), err)
		}
	}
}

func TestRefusedStaysRefusedWhateverTheClientHasSaid(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	listen := w.tunnelTo("root", "bob", "web", appstest.FreeAddress(t), "--users", "root")
	for _, said := range []int{0, 1, apps.EarlyLimit, 4 * apps.EarlyLimit} {
		c, err := net.Dial("tcp", listen)
		if errors.Is(err, syscall.ECONNRESET) {
			continue // it was quick
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(appstest.Timeout))
		if _, err := c.Write(bytes.Repeat([]byte{1}, said)); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			continue // a reset is told once
		}
		if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("after %d bytes: %d bytes came back, %v; want a reset", said, len(b), err)
		}
	}
}

func TestAFlowBesideABulkOneDoesNotWaitForAnotherSession(t *testing.T) {
	appstest.Long(t)
	w := newWorld(t)
	w.join("root", "root")
	l := newLine(t, w.address)
	w.joinOver(l, "far")
	listen := w.tunnelTo("far", "root", "web", echoServer(t))
	wantEcho(t, listen)
	l.shut.Store(true)
	bulk := dialTest(t, listen)
	go bulk.Write(make([]byte, 2<<20))
	if _, err := io.CopyN(io.Discard, bulk, 2<<20); err != nil {
		t.Fatal(err)
	}
	w.until("the dedicated connection is on its way", func() error {
		if l.waiting.Load() == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
	wantEcho(t, listen)
	if l.waiting.Load() == 0 {
		t.Error("the flow waited until the agent gave up opening a session for it")
	}
}
