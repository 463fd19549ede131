package main

import (
	"net"
	"strings"
	"testing"

	"ztm/apps/appstest"
)

func TestUsersSetFromAnotherEndpointAreKept(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("bob2", "bob")
	w.join("eve", "eve")
	target := echoServer(t)
	w.ztm("bob2", "ep", "ep-bob", "tunnel", "open", "outbound", "tcp/web", "--targets", target, "--users", "root")
	allowed, other := appstest.FreeAddress(t), appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/web", "--listen", allowed, "--exits", "ep-bob")
	w.ztm("eve", "tunnel", "open", "inbound", "tcp/web", "--listen", other, "--exits", "ep-bob")
	wantEcho(t, allowed)
	if got, err := echo(other, "x"); err == nil {
		t.Errorf("a user who is not listed got through: %q", got)
	}
	if _, errs, status := w.try("eve", "ep", "ep-bob", "tunnel", "close", "outbound", "tcp/web"); status != 1 || !strings.Contains(errs, "belongs to user bob") {
		t.Errorf("another user manages the endpoint: %d, %s", status, errs)
	}
}

func TestTunnelsAreListedOfOneEndpointOrOfAll(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("second", "root")
	w.ztm("root", "tunnel", "open", "outbound", "tcp/here", "--targets", "127.0.0.1:1")
	w.ztm("second", "tunnel", "open", "outbound", "tcp/there", "--targets", "127.0.0.1:1")
	for _, tt := range []struct {
		args        []string
		here, there bool
	}{
		{[]string{"get", "tunnel"}, true, true},
		{[]string{"ep", "ep-second", "get", "tunnel"}, false, true},
		{[]string{"ep", "ep-second", "get", "tunnel", "-o", "json"}, false, true},
	} {
		out := w.ztm("root", tt.args...)
		if strings.Contains(out, "tcp/here") != tt.here || strings.Contains(out, "tcp/there") != tt.there {
			t.Errorf("%v:\n%s", tt.args, out)
		}
	}
	if out, errs, status := w.try("root", "ep", "nobody", "get", "tunnel"); status != 1 || !strings.Contains(errs, "nobody") {
		t.Errorf("an endpoint that is not there: exit status %d\n%s%s", status, out, errs)
	}
}

func TestATunnelStaysWithTheUserWhoOfferedItFirst(t *testing.T) {
	w := newWorld(t)
	stop := w.join("root", "root")
	w.join("bob", "bob")
	w.join("eve", "eve")
	listen := w.tunnelTo("root", "bob", "db", echoServer(t), "--users", "root")
	wantEcho(t, listen)
	w.ztm("eve", "tunnel", "open", "outbound", "tcp/db", "--targets", appstest.FreeAddress(t), "--users", "root")
	stop()
	w.startAgent("root")
	w.connected("root")
	w.until("the inbound is open again", func() error {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			c.Close()
		}
		return err
	})
	wantEcho(t, listen) // nobody else takes the connections, and nobody stops them
	if out := w.ztm("root", "describe", "inbound", "tcp/db"); !strings.Contains(out, "eve") {
		t.Errorf("describe does not say that eve offers it, too:\n%s", out)
	}

	// An inbound that has no user yet takes none by luck.
	another := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "close", "inbound", "tcp/db")
	w.ztm("root", "tunnel", "open", "inbound", "tcp/db", "--listen", another)
	if _, err := echo(another, "x"); err == nil {
		t.Error("it chose a user")
	}
	w.ztm("root", "tunnel", "set", "inbound", "tcp/db", "--exits-of", "bob")
	wantEcho(t, another)
}

func TestTunnelsAreShownWithNamesWhileTheHubIsAway(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("bob", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1", "--users", "root")
	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/web", "--listen", listen, "--exits", "ep-bob")
	w.stopHub()
	for _, args := range [][]string{{"get", "inbound"}, {"describe", "inbound", "tcp/web"}} {
		out, errs, status := w.try("root", args...)
		if status != 0 || !strings.Contains(out, "ep-bob") {
			t.Errorf("%v: exit status %d\n%s%s", args, status, out, errs)
		}
	}
	if _, err := echo(listen, "x"); err == nil {
		t.Error("a client got an answer")
	}
}
