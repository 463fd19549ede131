//go:build unix

package splice_test

import (
	"io"
	"net"
	"testing"

	"ztm/tunnel/splice"
)

// silent is a wrapper that has bytes of its own.
type silent struct{ net.Conn }

func (silent) ReadsFrom() net.Conn { return nil }

// through is a wrapper whose bytes all come from its connection.
type through struct{ net.Conn }

func (t through) ReadsFrom() net.Conn { return t.Conn }

func TestAWaiterReturnsOnceThereIsSomethingToRead(t *testing.T) {
	for name, p := range map[string]pair{"tcp": tcp, "unix": unix} {
		for what, happens := range map[string]func(outer, inner net.Conn){
			"bytes":         func(outer, _ net.Conn) { write(t, outer, "x") },
			"its end":       func(outer, _ net.Conn) { outer.Close() },
			"its own close": func(_, inner net.Conn) { inner.Close() },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				outer, inner := p(t)
				wait := splice.Waiter(through{inner})
				returned := make(chan struct{})
				go func() { wait(); close(returned) }()
				happens(outer, inner)
				<-returned
				wait() // again: what is there is still there
			})
		}
	}
}

func TestAWaiterWaits(t *testing.T) {
	outer, inner := tcp(t)
	wait := splice.Waiter(inner)
	write(t, outer, "x")
	wait()
	if _, err := io.ReadFull(inner, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	returned := make(chan struct{})
	go func() { wait(); close(returned) }()
	select {
	case <-returned:
		t.Fatal("it returned, and nothing has come")
	default:
	}
	write(t, outer, "y")
	<-returned
}

func TestWhoHasBytesOfItsOwnIsNotWaitedFor(t *testing.T) {
	_, inner := tcp(t)
	for name, c := range map[string]net.Conn{"kept": silent{inner}, "wrapped": through{silent{inner}}, "unknown": plain{inner}} {
		if splice.Waiter(c) != nil {
			t.Errorf("%s: there is a waiter", name)
		}
	}
}
