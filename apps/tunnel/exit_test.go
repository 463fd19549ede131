package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/balance"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

func TestExitAnswersWithTheRealReason(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	refusing := appstest.FreeAddress(t)
	b.Offer(t, "tcp/refused", refusing, `"users":["alice"]`)
	b.Offer(t, "tcp/nohost", "no-such-host.invalid:80", `"users":["alice"]`)
	b.Offer(t, "tcp/nosocket", "unix:/nonexistent/socket", `"users":["alice"]`)
	b.Offer(t, "tcp/private", refusing)
	b.Offer(t, "tcp/elsewhere", refusing, `"users":["alice"]`, fmt.Sprintf(`"entrances":[%q]`, b.Self().ID))
	b.Offer(t, "tcp/range", "127.0.0.1:7000-7001", `"users":["alice"]`)
	const never = "not allowed (ref 000000): ask the owner of b" // whatever the reason
	tests := []struct {
		path  string
		query url.Values
		code  answer.Code
		text  string
	}{
		{"tcp/refused", nil, answer.Refused, "target " + refusing + " refused the connection"},
		{"tcp/nohost", nil, answer.DNS, "target no-such-host.invalid:80"},
		{"tcp/nosocket", nil, answer.Refused, "no such socket"},
		{"tcp/private", nil, answer.Denied, never},
		{"tcp/private", url.Values{spec.ProbeParam: {"1"}}, answer.Denied, never},
		{"tcp/private", url.Values{"user": {"bob"}}, answer.Denied, never},
		{"tcp/elsewhere", nil, answer.Denied, never},
		{"tcp/unknown", nil, answer.Denied, never},
		{"nonsense", nil, answer.Denied, never},
		{"", nil, answer.Denied, never},
		{"tcp/range", nil, answer.BadRequest, "2 ports at its exit and 1 at its entrance"},
		{"tcp/range", url.Values{spec.PortsParam: {"2"}, spec.PortParam: {"2"}}, answer.BadRequest, "names no port"},
		{"tcp/range", url.Values{spec.PortsParam: {"2"}, spec.PortParam: {"-1"}}, answer.BadRequest, "names no port"},
		{"tcp/range", url.Values{spec.PortsParam: {"x"}}, answer.BadRequest, "names no port"},
		{"tcp/refused", url.Values{spec.PortsParam: {"2"}, spec.PortParam: {"0"}}, answer.BadRequest, "1 ports at its exit and 2"},
	}
	for _, test := range tests {
		t.Run(test.path+"?"+test.query.Encode(), func(t *testing.T) {
			_, err := a.Open(t.Context(), b.Self().ID, "tunnel/"+test.path, test.query)
			if answer.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %s %v; want %s with %q", answer.CodeOf(err), err, test.code, test.text)
			}
		})
	}
}

func TestRefusalAtTheTargetResetsTheClient(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", appstest.FreeAddress(t))
	tunneltest.WantReset(t, a.Listen(t, "tcp/web"))
	appstest.Eventually(t, "the entrance notes the exit's reason", func() bool {
		return strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, "refused the connection")
	})
	if got := a.InboundStatus(t, "tcp/web").Stats.Errors[answer.Refused]; got != 1 {
		t.Errorf("the entrance counted %d refusals", got)
	}
	if s := b.OutboundStatus(t, "tcp/web"); s.Stats.Errors[answer.Refused] != 1 || s.Health[0].State != balance.Down || s.Health[0].Error == "" {
		t.Errorf("the exit shows %+v", s)
	}
}

func TestResetOfTheTargetReachesTheClient(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	ln := tunneltest.ListenTCP(t, "127.0.0.1:0")
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.ReadFull(c, make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	b.Offer(t, "tcp/web", ln.Addr().String())
	c := tunneltest.Dial(t, a.Listen(t, "tcp/web"))
	c.Write([]byte("x"))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

func TestTargetsTakeTurnsAndDeadOnesAreSkipped(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	dead := appstest.FreeAddress(t)
	b.Offer(t, "tcp/web", strings.Join([]string{tunneltest.Server(t, "one"), dead, tunneltest.Server(t, "two")}, ","))
	address := a.Listen(t, "tcp/web")
	got := map[string]int{}
	for range 6 {
		name, err := tunneltest.Greeting(t, address)
		if err != nil {
			t.Fatal(err)
		}
		got[name]++
	}
	if got["one"] == 0 || got["two"] == 0 {
		t.Errorf("the targets took %v connections", got)
	}
	for _, h := range b.OutboundStatus(t, "tcp/web").Health {
		if (h.State == balance.Down) != (h.Name == dead) {
			t.Errorf("%s is %v", h.Name, h.State)
		}
	}
	ln := tunneltest.ListenTCP(t, dead)
	tunneltest.Serve(t, ln, "three")
	appstest.Eventually(t, "the target that came back is used again", func() bool {
		name, _ := tunneltest.Greeting(t, address)
		return name == "three"
	})
}

func TestTakingAccessAwayCutsThoseWhoLostItAndNobodyElse(t *testing.T) {
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "bob")
	alice, carol, own := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "c", "carol"), tunneltest.Join(t, &n, "d", "bob")
	service := tunneltest.Server(t, "web")
	b.Offer(t, "tcp/web", service, `"users":["alice","carol"]`)
	b.Offer(t, "tcp/other", service, `"users":["alice"]`)
	open := func(e *tunneltest.Endpoint, name string) net.Conn {
		c := tunneltest.Dial(t, e.Listen(t, name))
		if _, err := tunneltest.ReadLine(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	cut := open(alice, "tcp/web")
	kept := map[string]net.Conn{"carol": open(carol, "tcp/web"), "bob": open(own, "tcp/web"), "other": open(alice, "tcp/other")}

	b.Offer(t, "tcp/web", service, `"users":["carol"]`)

	if _, err := tunneltest.ReadLine(cut); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of a user without access: %v, want a reset", err)
	}
	wantKept := func() {
		t.Helper()
		for who, c := range kept {
			io.WriteString(c, "still here\n")
			if line, err := tunneltest.ReadLine(c); line != "still here" || err != nil {
				t.Errorf("the flow of %s: %q, %v", who, line, err)
			}
		}
	}
	wantKept()

	b.Offer(t, "tcp/web", service, `"users":["carol"]`, fmt.Sprintf(`"entrances":[%q]`, own.Self().ID))
	if _, err := tunneltest.ReadLine(kept["carol"]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of an entrance without access: %v, want a reset", err)
	}
	delete(kept, "carol")
	wantKept()

	b.MustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
	if _, err := tunneltest.ReadLine(kept["bob"]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of a closed outbound: %v, want a reset", err)
	}
	delete(kept, "bob")
	wantKept()
}

func TestATunnelThatIsSwitchedOffIsNotOfferedAndKeepsItsSettings(t *testing.T) {
	var n appstest.Net
	b, a := tunneltest.Join(t, &n, "b", "bob"), tunneltest.Join(t, &n, "a", "alice")
	service := tunneltest.Server(t, "web")
	b.Offer(t, "tcp/web", service, `"users":["alice"]`)
	entrance := a.Listen(t, "tcp/web")
	c := tunneltest.Dial(t, entrance)
	if _, err := tunneltest.ReadLine(c); err != nil {
		t.Fatal(err)
	}
	open := func(who *tunneltest.Endpoint) error {
		flow, err := who.Open(t.Context(), b.Self().ID, "tunnel/tcp/web", url.Values{spec.ProbeParam: {"1"}})
		if err == nil {
			flow.Close()
		}
		return err
	}
	offering := func() int {
		all, err := a.Endpoints(t.Context(), apps.Filter{Offer: "tunnel/tcp/web"})
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}

	b.Offer(t, "tcp/web", service, `"users":["alice"]`, `"off":true`)
	if _, err := tunneltest.ReadLine(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a flow that ran: %v, want a reset", err)
	}
	if err := open(a); answer.CodeOf(err) != answer.Unavailable || !strings.Contains(err.Error(), "switched tunnel tcp/web off") {
		t.Errorf("a new flow: %v", err)
	}
	if err := open(tunneltest.Join(t, &n, "c", "carol")); answer.CodeOf(err) != answer.Denied {
		t.Errorf("somebody who had no access learns of it: %v", err)
	}
	if n := offering(); n != 0 {
		t.Errorf("%d endpoints offer it", n)
	}
	if s := b.OutboundStatus(t, "tcp/web"); !s.Off || len(s.Users) != 1 {
		t.Errorf("settings: %+v", s.Outbound)
	}

	b.Offer(t, "tcp/web", service, `"users":["alice"]`)
	tunneltest.WantGreeting(t, entrance, "web")
	if n := offering(); n != 1 {
		t.Errorf("%d endpoints offer it", n)
	}
}

func TestUnixSocketsServeBothEnds(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	dir := t.TempDir()
	ln, err := net.Listen("unix", dir+"/service")
	if err != nil {
		t.Fatal(err)
	}
	tunneltest.Serve(t, ln, "service")
	b.Offer(t, "tcp/web", "unix:"+dir+"/service")
	a.MustCall(t, "POST", "/inbound/tcp/web", `{"listens":["unix:`+dir+`/entrance"]}`, nil)
	tunneltest.WantGreeting(t, "unix:"+dir+"/entrance", "service")
}
