package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
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
		{"another user's that does not allow me", []offer{{"bob", ""}}, "", "", "does not allow user alice to use tunnel tcp/web"},
		{"another user's that allows somebody else", []offer{{"bob", "carol"}}, "", "", "does not allow user alice"},
		{"mine beside one that does not allow me", []offer{{"bob", ""}, {"alice", ""}}, "", "service1", ""},
		{"mine, which is offline, beside one that tries to capture me", []offer{{"mallory", "alice"}, {"alice", "offline"}}, "", "",
			"no endpoint of user alice that is online offers tunnel tcp/web"},
		{"mine beside one that tries to capture me", []offer{{"mallory", "alice"}, {"alice", ""}}, "", "service1", ""},
		{"two users that both allow me", []offer{{"carol", "alice"}, {"bob", "alice"}}, "", "", "tunnel tcp/web is offered by the users bob and carol: choose with --exits-of"},
		{"an explicit one of two users", []offer{{"carol", "alice"}, {"bob", "alice"}}, "exit1", "service1", ""},
		{"an explicit one that does not allow me", []offer{{"bob", ""}, {"alice", ""}}, "exit0", "", "does not allow user alice"},
		{"nobody offers it", nil, "", "", "no endpoint that is online offers tunnel tcp/web"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var n appstest.Net
			a := join(t, &n, "a", "alice")
			ids := map[string]identity.ID{}
			for i, o := range test.offers {
				exit := join(t, &n, fmt.Sprintf("exit%d", i), o.user)
				ids[exit.Self().Name] = exit.Self().ID
				users := `"users":[]`
				if o.users == "offline" {
					exit.SetOnline(false)
				} else if o.users != "" {
					users = `"users":["` + o.users + `"]`
				}
				exit.offer(t, "tcp/web", server(t, fmt.Sprintf("service%d", i)), users)
			}
			exits := `"exits":[]`
			if test.exits != "" {
				exits = `"exits":["` + string(ids[test.exits]) + `"]`
			}
			address := a.listen(t, "tcp/web", exits)
			if test.want != "" {
				wantGreeting(t, address, test.want)
				return
			}
			wantReset(t, address)
			appstest.Eventually(t, "the inbound says why", func() bool { return a.inboundStatus(t, "tcp/web").Stats.LastError != "" })
			s := a.inboundStatus(t, "tcp/web").Stats
			if len(s.Errors) != 1 || s.Flows != 0 || !strings.Contains(s.LastError, test.log) {
				t.Errorf("counted %+v, want one error and no flow", s)
			}
		})
	}
}

func TestConnectionRightAfterTheTunnelWasOpenedFindsIt(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "bob")
	address := a.listen(t, "tcp/web")
	wantReset(t, address) // nobody offers it; that must not be remembered
	b.offer(t, "tcp/web", server(t, "web"))
	wantReset(t, address) // not for us
	b.offer(t, "tcp/web", server(t, "web"), `"users":["alice"]`)
	appstest.Eventually(t, "it is found", func() bool { got, _ := greeting(t, address); return got == "web" })
}

func TestExitThatMovedIsFoundAgain(t *testing.T) {
	var n appstest.Net
	a, b, c := join(t, &n, "a", "alice"), join(t, &n, "b", "alice"), join(t, &n, "c", "alice")
	address := a.listen(t, "tcp/web")
	b.offer(t, "tcp/web", server(t, "b"))
	wantGreeting(t, address, "b")
	b.mustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
	c.offer(t, "tcp/web", server(t, "c"))
	wantGreeting(t, address, "c")
}

func TestExitsTakeTurnsAndDeadOnesAreSkipped(t *testing.T) {
	var n appstest.Net
	a, b, c, d := join(t, &n, "a", "alice"), join(t, &n, "b", "alice"), join(t, &n, "c", "alice"), join(t, &n, "d", "alice")
	b.offer(t, "tcp/web", server(t, "b"))
	c.offer(t, "tcp/web", server(t, "c"))
	d.offer(t, "tcp/web", appstest.FreeAddress(t)) // its target refuses
	address := a.listen(t, "tcp/web")
	got := map[string]int{}
	for range 6 {
		name, err := greeting(t, address)
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
		wantGreeting(t, address, "c")
	}
}

func TestExplicitExitsTakeOverFromEachOther(t *testing.T) {
	var n appstest.Net
	a, b, c := join(t, &n, "a", "alice"), join(t, &n, "b", "bob"), join(t, &n, "c", "carol")
	b.offer(t, "tcp/web", server(t, "b"), `"users":["alice"]`)
	c.offer(t, "tcp/web", server(t, "c"), `"users":["alice"]`)
	address := a.listen(t, "tcp/web", fmt.Sprintf(`"exits":[%q,%q]`, b.Self().ID, c.Self().ID))
	b.SetOnline(false)
	for range 4 {
		wantGreeting(t, address, "c")
	}
	c.SetOnline(false)
	wantReset(t, address)
	appstest.Eventually(t, "the inbound names both exits", func() bool {
		last := a.inboundStatus(t, "tcp/web").Stats.LastError
		return strings.Contains(last, string(b.Self().ID)) && strings.Contains(last, string(c.Self().ID))
	})
}

func TestAnotherUserDoesNotTakeOverWhileTheRightExitIsGone(t *testing.T) {
	for _, owner := range []string{"alice", "bob"} {
		t.Run("exit of "+owner, func(t *testing.T) {
			var n appstest.Net
			a, right, mallory := join(t, &n, "a", "alice"), join(t, &n, "b", owner), join(t, &n, "m", "mallory")
			right.offer(t, "tcp/web", server(t, "right"), `"users":["alice"]`)
			address := appstest.FreeAddress(t)
			listen := `{"listens":["` + address + `"]}`
			a.mustCall(t, "POST", "/inbound/tcp/web", listen, nil)
			wantGreeting(t, address, "right")
			right.SetOnline(false)
			mallory.offer(t, "tcp/web", server(t, "mallory"), `"users":["alice"]`)
			wantReset(t, address)
			right.mustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
			wantReset(t, address) // nor when it is not even offered any more
			a.stop()
			a.run(t)
			appstest.Eventually(t, "the inbound listens again", func() bool { return a.inboundStatus(t, "tcp/web").Listeners[0].Open })
			wantReset(t, address) // nor after a restart
			appstest.Eventually(t, "the inbound says why", func() bool {
				return strings.Contains(a.inboundStatus(t, "tcp/web").Stats.LastError, "no endpoint of user "+owner+" that is online offers tunnel tcp/web")
			})
			a.mustCall(t, "POST", "/inbound/tcp/web", listen, nil)
			wantReset(t, address) // nor after a change that is about something else
			a.mustCall(t, "POST", "/inbound/tcp/web", strings.Replace(listen, "{", `{"exitsOf":"mallory",`, 1), nil)
			wantGreeting(t, address, "mallory") // whom the owner has now chosen
		})
	}
}

// countingMesh counts the searches.
type countingMesh struct {
	apps.Mesh
	searches, opens, probes atomic.Int32

	hold chan struct{} // closed to let the first search go on
}

func (m *countingMesh) Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	if m.searches.Add(1) == 1 && m.hold != nil {
		<-m.hold
		return nil, errors.New("the hub is down")
	}
	return m.Mesh.Endpoints(ctx, f)
}

func (m *countingMesh) Open(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	m.opens.Add(1)
	if q.Has(probeParam) {
		m.probes.Add(1)
	}
	return m.Mesh.Open(ctx, to, path, q)
}

func TestConnectionsShareASearchButNotItsFailure(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "bob")
	b.offer(t, "tcp/web", server(t, "web"), `"users":["alice"]`)
	m := &countingMesh{Mesh: a.Host, hold: make(chan struct{})}
	e := &exits{mesh: m, state: a.app.host.State, key: Key{TCP, "web"}}

	first := make(chan error, 1)
	go func() {
		_, err := e.find(t.Context())
		first <- err
	}()
	appstest.Eventually(t, "the first search is under way", func() bool { return m.searches.Load() == 1 })
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() {
			if ids, err := e.find(t.Context()); err != nil || len(ids) != 1 {
				t.Errorf("found %v, %v", ids, err)
			}
		})
	}
	close(m.hold)
	others.Wait()
	if err := <-first; err == nil {
		t.Error("the first search did not fail")
	}
	if n := m.searches.Load(); n > 3 {
		t.Errorf("%d searches for 21 connections at once", n)
	}
	before := m.probes.Load()
	if _, err := e.find(t.Context()); err != nil || m.probes.Load() != before {
		t.Error("an answer a moment old was not used again")
	}
}

func TestProbeDoesNotReachTheTarget(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "bob")
	b.offer(t, "tcp/web", appstest.FreeAddress(t), `"users":["alice"]`)
	c, err := a.Open(t.Context(), b.Self().ID, "tunnel/tcp/web", url.Values{probeParam: {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v; want the end at once", got, err)
	}
}

// Names of tunnels are no secret, and everybody may offer any.
func TestMemberWithoutRightsCannotStopATunnel(t *testing.T) {
	var n appstest.Net
	a, bob, mallory := join(t, &n, "a", "alice"), join(t, &n, "b", "bob"), join(t, &n, "m", "mallory")
	bob.offer(t, "tcp/web", server(t, "bob"), `"users":["alice"]`)
	address := a.listen(t, "tcp/web")
	appstest.Eventually(t, "the inbound found its user when it was opened", func() bool {
		return a.inboundStatus(t, "tcp/web").ExitsUser == "bob"
	})
	mallory.offer(t, "tcp/web", server(t, "mallory"), `"users":["alice"]`)
	in := a.app.inbound(Key{TCP, "web"})
	for range 3 {
		in.exits.forget()
		wantGreeting(t, address, "bob")
	}
	own := join(t, &n, "c", "alice")
	own.offer(t, "tcp/web", server(t, "own"))
	in.exits.forget()
	wantGreeting(t, address, "bob") // not even the user's own endpoint changes what is decided
	if out := consoleAt(a).mustRun(t, "describe", "inbound", "tcp/web"); !strings.Contains(out, "bob") || !strings.Contains(out, "mallory") {
		t.Errorf("describe does not say who offers the tunnel and is not asked:\n%s", out)
	}
}

func TestUserOfTheExitsIsChosen(t *testing.T) {
	var n appstest.Net
	a, bob, carol := join(t, &n, "a", "alice"), join(t, &n, "b", "bob"), join(t, &n, "c", "carol")
	bob.offer(t, "tcp/web", server(t, "bob"), `"users":["alice"]`)
	carol.offer(t, "tcp/web", server(t, "carol"), `"users":["alice"]`)
	address := appstest.FreeAddress(t)
	c := consoleAt(a)
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", address, "--exits-of", "carol", "tcp/web")
	wantGreeting(t, address, "carol")
	c.mustRun(t, "tunnel", "set", "inbound", "--exits-of", "bob", "tcp/web")
	wantGreeting(t, address, "bob")
	c.mustRun(t, "tunnel", "set", "inbound", "--exits", "c", "tcp/web")
	wantGreeting(t, address, "carol")
	if _, err := c.run(t.Context(), "tunnel", "set", "inbound", "--exits", "c", "--exits-of", "bob", "tcp/web"); err == nil {
		t.Error("exits and a user of exits were taken together")
	}
}

// What each connection costs others, a client in a loop could take from them.
func TestClientInALoopDoesNotAskForEachConnection(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "tcp/web", appstest.FreeAddress(t)) // which refuses
	for _, test := range []struct{ name, exits string }{
		{"the target refuses", ""}, {"the target of a named exit refuses", `"exits":["` + string(b.Self().ID) + `"]`}, {"nobody offers it", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "nobody offers it" {
				b.mustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
			}
			m := &countingMesh{Mesh: a.Host}
			config := Inbound{Key: Key{TCP, "web"}}
			if test.exits != "" {
				config.Exits = []identity.ID{b.Self().ID}
			}
			in := newInbound(apps.Host{Mesh: m, State: a.app.host.State, Log: a.app.host.Log}, config)
			for range 1000 {
				if _, _, err := in.reach(t.Context(), m.Open, url.Values{}); err == nil {
					t.Fatal("it was reached")
				}
			}
			if asked := m.searches.Load() + m.opens.Load(); asked > 100 {
				t.Errorf("1000 clients in a row made %d questions", asked)
			}
		})
	}
}
