package cli

import (
	"net"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/tunneltest"
)

// Names of tunnels are no secret, and everybody may offer any.
func TestMemberWithoutRightsCannotStopATunnel(t *testing.T) {
	var n appstest.Net
	a, bob, mallory := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob"), tunneltest.Join(t, &n, "m", "mallory")
	bob.Offer(t, "tcp/web", tunneltest.Server(t, "bob"), `"users":["alice"]`)
	address := a.Listen(t, "tcp/web")
	appstest.Eventually(t, "the inbound found its user when it was opened", func() bool {
		return a.InboundStatus(t, "tcp/web").ExitsUser == "bob"
	})
	mallory.Offer(t, "tcp/web", tunneltest.Server(t, "mallory"), `"users":["alice"]`)
	again := func() string { // a search that nothing is remembered for
		a.Stop()
		a.Run(t)
		var l entrance.ListenStatus
		appstest.Eventually(t, "the inbound listens again", func() bool {
			l = a.InboundStatus(t, "tcp/web").Listeners[0]
			return l.Open
		})
		return l.Address
	}
	tunneltest.WantGreeting(t, address, "bob")
	tunneltest.WantGreeting(t, again(), "bob")
	own := tunneltest.Join(t, &n, "c", "alice")
	own.Offer(t, "tcp/web", tunneltest.Server(t, "own"))
	tunneltest.WantGreeting(t, again(), "bob") // not even the user's own endpoint changes what is decided
	if out := consoleAt(a).mustRun(t, "describe", "inbound", "tcp/web"); !strings.Contains(out, "bob") || !strings.Contains(out, "mallory") {
		t.Errorf("describe does not say who offers the tunnel and is not asked:\n%s", out)
	}
}

func TestUserOfTheExitsIsChosen(t *testing.T) {
	var n appstest.Net
	a, bob, carol := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob"), tunneltest.Join(t, &n, "c", "carol")
	bob.Offer(t, "tcp/web", tunneltest.Server(t, "bob"), `"users":["alice"]`)
	carol.Offer(t, "tcp/web", tunneltest.Server(t, "carol"), `"users":["alice"]`)
	address := appstest.FreeAddress(t)
	c := consoleAt(a)
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", address, "--exits-of", "carol", "tcp/web")
	tunneltest.WantGreeting(t, address, "carol")
	c.mustRun(t, "tunnel", "set", "inbound", "--exits-of", "bob", "tcp/web")
	tunneltest.WantGreeting(t, address, "bob")
	c.mustRun(t, "tunnel", "set", "inbound", "--exits", "c", "tcp/web")
	tunneltest.WantGreeting(t, address, "carol")
	if _, err := c.run(t.Context(), "tunnel", "set", "inbound", "--exits", "c", "--exits-of", "bob", "tcp/web"); err == nil {
		t.Error("exits and a user of exits were taken together")
	}
}

func TestAnInboundThatNobodyOffersIsWarnedOf(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "b"))
	for name, warned := range map[string]bool{"tcp/web": false, "tcp/wed": true} {
		c := consoleAt(a)
		c.mustRun(t, "tunnel", "open", "inbound", "--listen", appstest.FreeAddress(t), name)
		if got := strings.Contains(c.err.String(), name); got != warned {
			t.Errorf("%s: %q", name, c.err.String())
		}
	}
}

func TestAnExitThatOffersATunnelNoLongerIsNotDescribed(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "b"))
	address := a.Listen(t, "tcp/web")
	tunneltest.WantGreeting(t, address, "b")
	consoleAt(b).mustRun(t, "tunnel", "close", "outbound", "tcp/web")
	appstest.Eventually(t, "the exit is not listed", func() bool {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Read(make([]byte, 1))
			conn.Close()
		}
		return !strings.Contains(consoleAt(a).mustRun(t, "describe", "inbound", "tcp/web"), "Exit:")
	})
}
