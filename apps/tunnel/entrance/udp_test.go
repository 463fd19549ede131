package entrance

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/apps/udp"
	"ztm/tunnel/identity"
)

// muteMesh has an exit that does not answer.
type muteMesh struct{ apps.Mesh }

func (muteMesh) OpenDatagrams(ctx context.Context, _ identity.ID, _ string, _ url.Values) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Forged addresses are never answered.
func TestForgedClientsKeepNobodyOut(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	_, h := joinExit(t, &n, "b", "alice", nil)
	h.Mesh = muteMesh{h.Mesh}
	in := New(h, spec.Inbound{Key: spec.Key{Protocol: spec.UDP, Name: "dns"}, InboundSpec: spec.InboundSpec{Exits: []identity.ID{"x"}}})
	socket, err := udp.Listen(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	defer in.End()
	p := &udpPort{in: in, l: newListener(spec.UDP, spec.Address{}), socket: socket, sessions: map[udp.Path]*session{}}
	client := func(i int) udp.Path {
		return udp.Path{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)}
	}
	known := p.session(client(0))
	known.answered.Store(true)
	for i := 1; i < 3*maxSessions; i++ {
		if p.session(client(i)) == nil {
			t.Fatalf("client %d was kept out", i)
		}
	}
	if p.session(client(0)) != known {
		t.Error("a client that was answered lost its session")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) > maxSessions || len(p.unanswered) > 2*maxSessions {
		t.Errorf("%d sessions and %d places in line", len(p.sessions), len(p.unanswered))
	}
	for _, s := range p.sessions {
		s.answered.Store(true)
	}
	p.mu.Unlock()
	refused := p.session(client(1 << 15))
	p.mu.Lock()
	if refused != nil {
		t.Error("there is no limit")
	}
}
