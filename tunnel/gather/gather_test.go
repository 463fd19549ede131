package gather

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// endedBy is a path of which one direction is there.
type endedBy struct {
	net.Conn
	io.Reader
}

func (e *endedBy) Read(p []byte) (int, error) { return e.Reader.Read(p) }

// A peer that is nobody yet may begin handshakes on many paths.
func TestBeforeItMayGrowItHoldsASmallBuffer(t *testing.T) {
	record := append([]byte{22, 3, 1, 0x3f, 0}, make([]byte, 0x3f00)...)
	c := New(&endedBy{Reader: bytes.NewReader(record)})
	if _, err := io.ReadFull(c, record[:len(record)-1]); err != nil {
		t.Fatal(err)
	}
	if n := c.in.own.Size(); n == 0 || n > 4<<10 {
		t.Errorf("it holds a buffer of %d bytes", n)
	}
	if _, err := io.ReadFull(c, record[:1]); err != nil {
		t.Fatal(err)
	}
	if n := c.in.own.Size(); n != 0 {
		t.Errorf("all was taken, and it holds a buffer of %d bytes", n)
	}
}
