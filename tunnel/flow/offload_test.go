package flow

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"ztm/tunnel/h2"
)

// outside is a dedicated connection that is a pipe.
type outside struct {
	net.Conn
	resets int
}

func (o *outside) CloseWrite() error { return o.Conn.Close() }
func (o *outside) Reset() error      { o.resets++; return o.Conn.Close() }

func newOutside() *outside {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far) // ends with near
	return &outside{Conn: near}
}

// TestAnOffloadGoesThroughItsPhases follows the drawing above the type offload.
func TestAnOffloadGoesThroughItsPhases(t *testing.T) {
	type step struct {
		do   string
		want int32
	}
	for name, steps := range map[string][]step{
		"at the entrance":                     {{"ask", asked}, {"offload", apart}, {"write", apart}, {"read", apart}, {"end", apart}},
		"at the exit":                         {{"offload", apart}, {"read", apart}, {"write", apart}, {"end", apart}},
		"a flow that stays":                   {{"end", over}, {"offload", over}},
		"a connection that comes too late":    {{"ask", asked}, {"end", over}, {"offload", over}},
		"a second connection":                 {{"offload", apart}, {"offload", apart}, {"end", apart}},
		"a flow that ends while it is moving": {{"ask", asked}, {"offload", apart}, {"write", apart}, {"end", apart}},
		"asked twice":                         {{"ask", asked}, {"ask", asked}, {"offload", apart}, {"ask", apart}, {"end", apart}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := onItsOwn(t)
				asks := 0
				c.OnOffload(func() { asks++ })
				var connections []*outside
				for _, s := range steps {
					switch s.do {
					case "ask":
						c.askOffload()
					case "offload":
						connections = append(connections, newOutside())
						c.Offload(connections[len(connections)-1])
					case "write":
						c.switchWriting()
					case "read":
						c.offload.switchReading(nil)
					case "end":
						c.Reset()
					}
					synctest.Wait()
					if got := c.offload.phase.Load(); got != s.want {
						t.Fatalf("after %q it is in phase %d, want %d", s.do, got, s.want)
					}
				}
				if asks > 1 {
					t.Errorf("it asked %d times", asks)
				}
				for i, o := range connections {
					if o.resets != 1 { // by the flow that ends, or because it was one too many
						t.Errorf("connection %d was reset %d times", i, o.resets)
					}
				}
			})
		})
	}
}

func TestAReaderThatSwitchesBeforeItsConnectionIsThereWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ends := range []bool{false, true} {
			c := onItsOwn(t)
			got := make(chan error, 1)
			go func() { got <- c.offload.switchReading(nil) }()
			synctest.Wait()
			if len(got) > 0 {
				t.Fatal("it did not wait")
			}
			if ends {
				c.Reset()
			} else {
				c.Offload(newOutside())
			}
			if err := <-got; ends != errors.Is(err, net.ErrClosed) {
				t.Errorf("the flow ends: %v; got %v", ends, err)
			}
			c.Reset()
		}
	})
}

// onItsOwn is a flow on a session whose peer takes everything and says nothing.
func onItsOwn(t *testing.T) *Conn {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far) // ends with near
	session := h2.Client(near, h2.Options{})
	t.Cleanup(func() {
		session.Close()
		session.Wait()
	})
	s, err := session.Open(request(), false)
	if err != nil {
		t.Fatal(err)
	}
	return newConn(s, false)
}

func TestAnOffloadedFlowEndsWithItsSession(t *testing.T) {
	c := onItsOwn(t)
	d := newOutside()
	c.Offload(d)
	if _, err := c.Write([]byte("in the dedicated connection")); err != nil {
		t.Fatal(err)
	}
	c.stream.Conn().Close()
	if _, err := d.Read(make([]byte, 1)); err == nil {
		t.Error("the dedicated connection has ended cleanly")
	}
}
