package tunnel_test

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/identity"
)

func TestExitsAreTheEndpointsOfMyUserAndThoseThatAllowMe(t *testing.T) {
	type offer struct{ user, users string }
	tests := []struct {
		name   string
		offers []offer
		exits  string // which of the offers is named explicitly, if any
		want   string // the greeting, or "" for a reset
		log    string // what the log of the entrance says
	}{
		{"my own", []offer{{"alice", ""}}, "", "service0", ""},
		{"another user's that allows me", []offer{{"bob", "alice"}}, "", "service0", ""},
		{"another user's that does not allow me", []offer{{"bob", ""}}, "", "", "not allowed"},
		{"another user's that allows somebody else", []offer{{"bob", "carol"}}, "", "", "not allowed"},
		{"mine beside one that does not allow me", []offer{{"bob", ""}, {"alice", ""}}, "", "service1", ""},
		{"mine, which is offline, beside one that tries to capture me", []offer{{"mallory", "alice"}, {"alice", "offline"}}, "", "",
			"no endpoint of user alice that is online offers tunnel tcp/web"},
		{"mine beside one that tries to capture me", []offer{{"mallory", "alice"}, {"alice", ""}}, "", "service1", ""},
		{"two users that both allow me", []offer{{"carol", "alice"}, {"bob", "alice"}}, "", "", "tunnel tcp/web is offered by the users bob and carol: choose with --exits-of"},
		{"an explicit one of two users", []offer{{"carol", "alice"}, {"bob", "alice"}}, "exit1", "service1", ""},
		{"an explicit one that does not allow me", []offer{{"bob", ""}, {"alice", ""}}, "exit0", "", "not allowed"},
		{"nobody offers it", nil, "", "", "no endpoint that is online offers tunnel tcp/web"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var n appstest.Net
			a := tunneltest.Join(t, &n, "a", "alice")
			ids := map[string]identity.ID{}
			for i, o := range test.offers {
				from := tunneltest.Join(t, &n, fmt.Sprintf("exit%d", i), o.user)
				ids[from.Self().Name] = from.Self().ID
				users := `"users":[]`
				if o.users == "offline" {
					from.SetOnline(false)
				} else if o.users != "" {
					users = `"users":["` + o.users + `"]`
				}
				from.Offer(t, "tcp/web", tunneltest.Server(t, fmt.Sprintf("service%d", i)), users)
			}
			exits := `"exits":[]`
			if test.exits != "" {
				exits = `"exits":["` + string(ids[test.exits]) + `"]`
			}
			address := a.Listen(t, "tcp/web", exits)
			if test.want != "" {
				tunneltest.WantGreeting(t, address, test.want)
				return
			}
			tunneltest.WantReset(t, address)
			appstest.Eventually(t, "the inbound says why", func() bool { return strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, test.log) })
			s := a.InboundStatus(t, "tcp/web").Stats
			if len(s.Errors) != 1 || s.Flows != 0 || !strings.Contains(s.LastError, test.log) {
				t.Errorf("counted %+v, want one error and no flow", s)
			}
		})
	}
}

func TestConnectionRightAfterTheTunnelWasOpenedFindsIt(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	address := a.Listen(t, "tcp/web")
	tunneltest.WantReset(t, address) // nobody offers it; that must not be remembered
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	tunneltest.WantReset(t, address) // not for us
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"), `"users":["alice"]`)
	appstest.Eventually(t, "it is found", func() bool { got, _ := tunneltest.Greeting(t, address); return got == "web" })
}

func TestExitThatMovedIsFoundAgain(t *testing.T) {
	var n appstest.Net
	a, b, c := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice"), tunneltest.Join(t, &n, "c", "alice")
	address := a.Listen(t, "tcp/web")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "b"))
	tunneltest.WantGreeting(t, address, "b")
	b.MustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
	c.Offer(t, "tcp/web", tunneltest.Server(t, "c"))
	tunneltest.WantGreeting(t, address, "c")
}

func TestExitsTakeTurnsAndDeadOnesAreSkipped(t *testing.T) {
	var n appstest.Net
	a, b, c, d := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice"), tunneltest.Join(t, &n, "c", "alice"), tunneltest.Join(t, &n, "d", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "b"))
	c.Offer(t, "tcp/web", tunneltest.Server(t, "c"))
	d.Offer(t, "tcp/web", appstest.FreeAddress(t)) // its target refuses
	address := a.Listen(t, "tcp/web")
	got := map[string]int{}
	for range 6 {
		name, err := tunneltest.Greeting(t, address)
		if err != nil {
			t.Fatal(err)
		}
		got[name]++
	}
	if got["b"] == 0 || got["c"] == 0 || got["b"]+got["c"] != 6 {
		t.Errorf("the exits took %v connections", got)
	}
	b.SetOnline(false)
	for range 4 {
		tunneltest.WantGreeting(t, address, "c")
	}
}

func TestExplicitExitsTakeOverFromEachOther(t *testing.T) {
	var n appstest.Net
	a, b, c := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob"), tunneltest.Join(t, &n, "c", "carol")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "b"), `"users":["alice"]`)
	c.Offer(t, "tcp/web", tunneltest.Server(t, "c"), `"users":["alice"]`)
	address := a.Listen(t, "tcp/web", fmt.Sprintf(`"exits":[%q,%q]`, b.Self().ID, c.Self().ID))
	b.SetOnline(false)
	for range 4 {
		tunneltest.WantGreeting(t, address, "c")
	}
	c.SetOnline(false)
	tunneltest.WantReset(t, address)
	appstest.Eventually(t, "the inbound names both exits", func() bool {
		return strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, string(b.Self().ID)) && strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, string(c.Self().ID))
	})
}

func TestAnotherUserDoesNotTakeOverWhileTheRightExitIsGone(t *testing.T) {
	for _, owner := range []string{"alice", "bob"} {
		t.Run("exit of "+owner, func(t *testing.T) {
			var n appstest.Net
			a, right, mallory := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", owner), tunneltest.Join(t, &n, "m", "mallory")
			right.Offer(t, "tcp/web", tunneltest.Server(t, "right"), `"users":["alice"]`)
			address := appstest.FreeAddress(t)
			listen := `{"listens":["` + address + `"]}`
			a.MustCall(t, "POST", "/inbound/tcp/web", listen, nil)
			tunneltest.WantGreeting(t, address, "right")
			right.SetOnline(false)
			mallory.Offer(t, "tcp/web", tunneltest.Server(t, "mallory"), `"users":["alice"]`)
			tunneltest.WantReset(t, address)
			right.MustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
			tunneltest.WantReset(t, address) // nor when it is not even offered any longer
			a.Stop()
			a.Run(t)
			appstest.Eventually(t, "the inbound listens again", func() bool { return a.InboundStatus(t, "tcp/web").Listeners[0].Open })
			tunneltest.WantReset(t, address) // nor after a restart
			appstest.Eventually(t, "the inbound says why", func() bool {
				return strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, "no endpoint of user "+owner+" that is online offers tunnel tcp/web")
			})
			a.MustCall(t, "POST", "/inbound/tcp/web", listen, nil)
			tunneltest.WantReset(t, address) // nor after a change that is about something else
			a.MustCall(t, "POST", "/inbound/tcp/web", strings.Replace(listen, "{", `{"exitsOf":"mallory",`, 1), nil)
			tunneltest.WantGreeting(t, address, "mallory") // whom the owner has now chosen
		})
	}
}

func TestProbeDoesNotReachTheTarget(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	b.Offer(t, "tcp/web", appstest.FreeAddress(t), `"users":["alice"]`)
	c, err := a.Open(t.Context(), b.Self().ID, "tunnel/tcp/web", url.Values{spec.ProbeParam: {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v; want the end at once", got, err)
	}
}

// Whoever is invited under the name of an evicted user is another person.
func TestTheNextUserOfANameDoesNotGetTheConnections(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "bob"), `"users":["alice"]`)
	address := a.Listen(t, "tcp/web")
	tunneltest.WantGreeting(t, address, "bob")
	n.Evict("carol") // which is no matter
	tunneltest.WantGreeting(t, address, "bob")
	n.Evict("bob") // and a new one is invited
	tunneltest.WantReset(t, address)
	appstest.Eventually(t, "the inbound says why", func() bool {
		return strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, "user bob, whose exits tunnel tcp/web used, was evicted")
	})
	a.MustCall(t, "DELETE", "/inbound/tcp/web", nil, nil)
	tunneltest.WantGreeting(t, a.Listen(t, "tcp/web"), "bob") // which the owner has chosen
}
