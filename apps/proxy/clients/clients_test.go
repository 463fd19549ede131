package clients

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// addressed is a connection from somewhere.
type addressed struct {
	net.Conn
	from string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.from))
}

// enter files a client from an address. The other end of its connection is returned.
func enter(t *testing.T, l *List, from string) (c *Client, far net.Conn, leave func()) {
	t.Helper()
	near, far := net.Pipe()
	c = NewClient(addressed{near, from})
	out, ok := l.Enter(c)
	if !ok {
		t.Fatalf("a client from %s is turned away", from)
	}
	return c, far, func() { out(); near.Close() }
}

func TestAPasswordThatChangesCutsItsClients(t *testing.T) {
	users := NewCredentials()
	kept, err := NewCredential("secret")
	if err != nil {
		t.Fatal(err)
	}
	users.Set(map[string]Credential{"me": kept})
	l := New(users, slog.New(slog.DiscardHandler))
	mine, farMine, leaveMine := enter(t, l, "192.0.2.1:1")
	defer leaveMine()
	_, farOther, leaveOther := enter(t, l, "192.0.2.2:1")
	if !l.Required() || l.Admit(t.Context(), mine, "me", "wrong") || !l.Admit(t.Context(), mine, "me", "secret") {
		t.Error("passwords are not checked")
	}
	l.Cut(func(user string) bool { return user == "me" })
	if _, err := farMine.Read(make([]byte, 1)); err == nil {
		t.Error("the client stays")
	}
	done := make(chan error, 1)
	go func() { _, err := farOther.Read(make([]byte, 1)); done <- err }()
	select {
	case err := <-done:
		t.Errorf("another client is cut, too: %v", err)
	default:
	}
	leaveOther()
	<-done
	if l.Count() != 1 || l.Total() != 2 {
		t.Errorf("%d clients, %d in all", l.Count(), l.Total())
	}
	l.Close()
	if _, ok := l.Enter(NewClient(addressed{nil, "192.0.2.3:1"})); ok {
		t.Error("a client is let in after the end")
	}
}

func TestAPasswordThatCannotBeCheckedIsNoPassword(t *testing.T) {
	users := NewCredentials()
	kept, err := NewCredential("secret")
	if err != nil {
		t.Fatal(err)
	}
	users.Set(map[string]Credential{"me": kept})
	users.busy <- struct{}{} // somebody else's is being checked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if users.Check(ctx, "me", "secret") {
		t.Error("it was let in")
	}
	<-users.busy
	if !users.Check(t.Context(), "me", "secret") || users.Check(t.Context(), "you", "secret") {
		t.Error("passwords are not checked")
	}
	users.busy <- struct{}{}
	if !users.Check(ctx, "me", "secret") {
		t.Error("a password that was right once has to wait for others")
	}
}
