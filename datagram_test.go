package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/direct/directtest"
)

// echoPackets answers each datagram with itself.
func echoPackets(t testing.TB) (address string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() { // ends with c
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// caller is a client of a UDP tunnel from root to bob's echo.
type caller struct {
	net.Conn
	w    *world
	said int
}

// caller has root and bob be neighbours, with a tunnel for datagrams between them.
func (w *world) caller(l *lan) *caller {
	w.t.Helper()
	w.neighbour(l, "root", "10.1.0.1/24")
	w.neighbour(l, "bob", "10.1.0.2/24")
	return w.callFrom("root")
}

// callFrom opens the tunnel from an agent to bob's echo.
func (w *world) callFrom(from string) *caller {
	w.t.Helper()
	w.ztm("bob", "tunnel", "open", "outbound", "udp/echo", "--targets", echoPackets(w.t), "--users", from)
	listen := appstest.FreeAddress(w.t)
	w.ztm(from, "tunnel", "open", "inbound", "udp/echo", "--listen", listen)
	c, err := net.Dial("udp", listen)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return &caller{Conn: c, w: w}
}

// talk sends a datagram of a length and waits for its echo, and again where one is lost.
func (c *caller) talk(length int) {
	c.w.t.Helper()
	c.said++
	text := fmt.Sprintf("%-*d", length, c.said)
	c.w.until("a datagram comes back", func() error {
		if _, err := c.Write([]byte(text)); err != nil {
			return err
		}
		for {
			c.SetReadDeadline(time.Now().Add(time.Second))
			b := make([]byte, 1<<16)
			n, err := c.Read(b)
			if err != nil {
				return err
			}
			if string(b[:n]) == text {
				return nil
			}
		}
	})
}

func (w *world) untilBeside(agent, to string) {
	w.t.Helper()
	w.until("datagrams from "+agent+" to "+to+" have a path", func() error {
		if r := w.route(agent, to).Datagrams; r == nil || r.Direct != "LAN" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

func (w *world) untilNotBeside(agent, to string) {
	w.t.Helper()
	w.until("datagrams from "+agent+" to "+to+" are in the session", func() error {
		if r := w.route(agent, to).Datagrams; r != nil && r.Direct != "" {
			return errors.New(r.String())
		}
		return nil
	})
}

// untilSaidWhy waits until it is said why datagrams from root to bob have no path, with a word in it.
func (w *world) untilSaidWhy(word string) {
	w.t.Helper()
	w.until("it is said why", func() error {
		if r := w.route("root", "ep-bob").Datagrams; r == nil || r.Why == "" || !strings.Contains(r.Why, word) {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

func (w *world) untilNoSocket(l *lan) {
	w.t.Helper()
	w.until("no socket is open", func() error {
		if n := l.air.Open(); n > 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// counted is an air that counts what is as long as a datagram of a call.
func counted(l *lan, longer int) *atomic.Int64 {
	n := new(atomic.Int64)
	l.air.Set(func(from, _ netip.AddrPort, b []byte) (netip.AddrPort, bool) {
		if len(b) > longer && len(b) < 1228 {
			n.Add(1)
		}
		return from, true
	})
	return n
}

// The flow that began in the session uses the path once it is there, both ways.
func TestDatagramsGoDirectlyAndWholeOnesThatAreTooLongInTheSession(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	c := w.caller(l)
	c.talk(500)
	w.untilBeside("root", "ep-bob")
	w.untilBeside("bob", "ep-root")
	n := counted(l, 500)
	for range 20 {
		c.talk(500)
	}
	if got := n.Load(); got < 20 { // a machine that is busy for a second has some of them in the session
		t.Errorf("%d of 40 datagrams went directly", got)
	}
	before := n.Load()
	c.talk(5000)
	c.talk(1)
	if got := n.Load(); got != before {
		t.Error("a datagram of 5,000 bytes is in pieces")
	}
	if out := w.ztm("root", "describe", "ep", "ep-bob"); !strings.Contains(out, "Datagrams:") || !strings.Contains(out, "direct (LAN 10.1.0.2:") {
		t.Errorf("it is not said:\n%s", out)
	}
	for _, args := range [][]string{{"ping", "ep", "ep-bob"}, {"get", "ep", "-o", "wide"}} {
		if out := w.ztm("root", args...); !strings.Contains(out, "; datagrams direct (LAN 10.1.0.2:") {
			t.Errorf("%v says:\n%s", args, out)
		}
	}
	if out := w.ztm("root", "describe", "ep", "ep-root"); strings.Contains(out, "Datagrams:") {
		t.Errorf("of this one it is said:\n%s", out)
	}
}

// A flow lives on where its path goes black.
func TestDatagramsAreInTheSessionWhereThePathGoesBlack(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	c := w.caller(l)
	c.talk(500)
	w.untilBeside("root", "ep-bob")
	l.air.Set(directtest.None)
	for range 5 {
		c.talk(500)
	}
	w.untilNotBeside("root", "ep-bob")
	w.untilNotBeside("bob", "ep-root")
	c.talk(500)
	w.untilSaidWhy("broke")
}

// The flow is older than its second path.
func TestAFlowOfDatagramsThatLostItsPathHasOneAgain(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	c := w.caller(l)
	c.talk(500)
	w.untilBeside("root", "ep-bob")
	w.ztm("root", "config", "direct", "off")
	w.untilNoSocket(l)
	w.ztm("root", "config", "direct", "auto")
	n := counted(l, 500)
	w.until("datagrams go directly again", func() error {
		if c.talk(500); n.Load() == 0 {
			return errors.New("they are in the session")
		}
		return nil
	})
}

// UDP is dropped from the beginning: nothing is lost but the path.
func TestDatagramsAreInTheSessionWhereNoPacketGetsThrough(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	l.air.Set(directtest.None)
	c := w.caller(l)
	for range 10 {
		c.talk(500)
	}
	w.untilSaidWhy("")
	w.untilNoSocket(l)
}

func TestNoSocketForDatagramsIsOpenWhereThatIsTurnedOff(t *testing.T) {
	for name, side := range map[string]string{"by the one that began": "root", "by the other one": "bob"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := newLAN(t)
			c := w.caller(l)
			c.talk(500)
			w.untilBeside("root", "ep-bob")
			w.ztm(side, "config", "direct", "off")
			w.until("no socket is open", func() error { // and not because nothing is said for a while
				if c.talk(500); l.air.Open() > 0 {
					return errors.New("one is")
				}
				return nil
			})
			again := counted(l, 0)
			c.talk(500)
			if n := again.Load(); n > 0 {
				t.Errorf("%d packets leave", n)
			}
		})
	}
}

func TestAnEvictedUserHasNoPathForDatagrams(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	w.neighbour(l, "root", "10.1.0.1/24")
	w.neighbour(l, "bob", "10.1.0.2/24")
	w.neighbour(l, "eve", "10.1.0.3/24")
	c := w.callFrom("eve")
	c.talk(500)
	w.untilBeside("eve", "ep-bob")
	w.ztm("root", "evict", "eve")
	w.untilWithin(40*time.Second, "no socket is open", func() error { // at rest a path ends after a minute
		if l.air.Open() > 0 {
			return errors.New("one is")
		}
		return nil
	})
	c.SetDeadline(time.Now().Add(time.Second))
	c.Write([]byte("and now?"))
	if _, err := c.Read(make([]byte, 100)); err == nil {
		t.Error("it is answered")
	}
}
