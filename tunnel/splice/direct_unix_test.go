//go:build unix

package splice

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// TestAUnixSocketTakesAtOnceWhatFits holds that a direct write waits for nobody, and loses nothing.
func TestAUnixSocketTakesAtOnceWhatFits(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	try := Direct(near)
	if try == nil {
		t.Fatal("a unix socket cannot be written to directly")
	}
	piece, sent := bytes.Repeat([]byte("0123456789"), 1000), []byte(nil)
	for { // until nobody reads and it is full
		n := try(piece)
		sent = append(sent, piece[:n]...)
		if n == 0 {
			break
		}
	}
	near.Close()
	got, err := io.ReadAll(far)
	if err != nil || len(sent) == 0 || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes were taken and %d came, %v", len(sent), len(got), err)
	}
}
