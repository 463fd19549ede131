package hub

import (
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestACarrierBringsBytesBothWaysAndTheEnd(t *testing.T) {
	h := start(t)
	b := h.device("bob").online("b")
	b.answer(echo)
	a := h.device("alice").online("a")
	for range 20 {
		c, err := a.carry(b.id, "")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "hello")
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if diff := cmp.Diff("hello", string(got)); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		c.Close()
	}
}

func TestACarrierMayBeAStreamAtEitherEnd(t *testing.T) {
	h := start(t)
	b := h.device("bob").online("b")
	b.answer(echo)
	a := h.device("alice").online("a")
	c, err := a.Session.Carry(t.Context(), b.id, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q %v", got, err)
	}
}
