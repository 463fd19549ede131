package relay

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// joined relays between two pipes, and returns their other ends and what is closed at the end of the relay.
func joined(ctx context.Context) (a, b net.Conn, ended chan struct{}) {
	a, inA := net.Pipe()
	b, inB := net.Pipe()
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		Datagrams(ctx, inA, inB)
	}()
	return a, b, ended
}

func TestDatagramsPassUntilBothAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, ended := joined(t.Context())
		buf := make([]byte, 10)
		for range 3 { // longer than one silence in all
			time.AfterFunc(datagramIdle/2, func() { a.Write([]byte("x")) })
			if n, err := b.Read(buf); err != nil || string(buf[:n]) != "x" {
				t.Fatalf("%q, %v", buf[:n], err)
			}
			go b.Write([]byte("y"))
			if n, err := a.Read(buf); err != nil || string(buf[:n]) != "y" {
				t.Fatalf("%q, %v", buf[:n], err)
			}
		}
		began := time.Now()
		<-ended
		if silent := time.Since(began); silent < datagramIdle || silent > 2*datagramIdle {
			t.Errorf("it ended after a silence of %v", silent)
		}
		if _, err := a.Read(buf); err != io.EOF {
			t.Errorf("a connection is left open: %v", err)
		}
	})
}

func TestTheEndOfTheContextEndsARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b, ended := joined(ctx)
		cancel()
		<-ended
		for _, c := range []net.Conn{a, b} {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a connection is left open: %v", err)
			}
		}
	})
}
