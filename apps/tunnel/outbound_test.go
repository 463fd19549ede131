package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/balance"
	"ztm/tunnel/answer"
)

func TestExitAnswersWithTheRealReason(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "bob")
	refusing := appstest.FreeAddress(t)
	b.offer(t, "tcp/refused", refusing, `"users":["alice"]`)
	b.offer(t, "tcp/nohost", "no-such-host.invalid:80", `"users":["alice"]`)
	b.offer(t, "tcp/nosocket", "unix:/nonexistent/socket", `"users":["alice"]`)
	b.offer(t, "tcp/private", refusing)
	b.offer(t, "tcp/elsewhere", refusing, `"users":["alice"]`, fmt.Sprintf(`"entrances":[%q]`, b.Self().ID))
	b.offer(t, "tcp/range", "127.0.0.1:7000-7001", `"users":["alice"]`)
	tests := []struct {
		path  string
		query url.Values
		code  answer.Code
		text  string
	}{
		{"tcp/refused", nil, answer.Refused, "target " + refusing + " refused the connection"},
		{"tcp/nohost", nil, answer.DNS, "target no-such-host.invalid:80"},
		{"tcp/nosocket", nil, answer.Refused, "no such socket"},
		{"tcp/private", nil, answer.Denied, "endpoint b does not allow user alice to use tunnel tcp/private"},
		{"tcp/private", url.Values{probeParam: {"1"}}, answer.Denied, "endpoint b does not allow user alice to use tunnel tcp/private"},
		{"tcp/private", url.Values{"user": {"bob"}}, answer.Denied, "endpoint b does not allow user alice"},
		{"tcp/elsewhere", nil, answer.Denied, "as an entrance of tunnel tcp/elsewhere"},
		{"tcp/unknown", nil, answer.NotFound, "endpoint b has no tunnel tcp/unknown"},
		{"nonsense", nil, answer.NotFound, "has no tunnel nonsense"},
		{"", nil, answer.NotFound, "has no tunnel"},
		{"tcp/range", nil, answer.BadRequest, "2 ports at its exit and 1 at its entrance"},
		{"tcp/range", url.Values{portsParam: {"2"}, portParam: {"2"}}, answer.BadRequest, "names no port"},
		{"tcp/range", url.Values{portsParam: {"2"}, portParam: {"-1"}}, answer.BadRequest, "names no port"},
		{"tcp/range", url.Values{portsParam: {"x"}}, answer.BadRequest, "names no port"},
		{"tcp/refused", url.Values{portsParam: {"2"}, portParam: {"0"}}, answer.BadRequest, "1 ports at its exit and 2"},
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
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "tcp/web", appstest.FreeAddress(t))
	wantReset(t, a.listen(t, "tcp/web"))
	appstest.Eventually(t, "the entrance notes the exit's reason", func() bool {
		return strings.Contains(a.inboundStatus(t, "tcp/web").Stats.LastError, "refused the connection")
	})
	if got := a.inboundStatus(t, "tcp/web").Stats.Errors[answer.Refused]; got != 1 {
		t.Errorf("the entrance counted %d refusals", got)
	}
	if s := b.outboundStatus(t, "tcp/web"); s.Stats.Errors[answer.Refused] != 1 || s.Health[0].State != balance.Down || s.Health[0].Error == "" {
		t.Errorf("the exit shows %+v", s)
	}
}

func TestResetOfTheTargetReachesTheClient(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	ln := listenTCP(t, "127.0.0.1:0")
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.ReadFull(c, make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	b.offer(t, "tcp/web", ln.Addr().String())
	c := dial(t, a.listen(t, "tcp/web"))
	c.Write([]byte("x"))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

func TestTargetsTakeTurnsAndDeadOnesAreSkipped(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	dead := appstest.FreeAddress(t)
	b.offer(t, "tcp/web", strings.Join([]string{server(t, "one"), dead, server(t, "two")}, ","))
	address := a.listen(t, "tcp/web")
	got := map[string]int{}
	for range 6 {
		name, err := greeting(t, address)
		if err != nil {
			t.Fatal(err)
		}
		got[name]++
	}
	if got["one"] == 0 || got["two"] == 0 {
		t.Errorf("the targets took %v connections", got)
	}
	for _, h := range b.outboundStatus(t, "tcp/web").Health {
		if (h.State == balance.Down) != (h.Name == dead) {
			t.Errorf("%s is %v", h.Name, h.State)
		}
	}
	ln := listenTCP(t, dead)
	serve(t, ln, "three")
	appstest.Eventually(t, "the target that came back is used again", func() bool {
		name, _ := greeting(t, address)
		return name == "three"
	})
}

func TestTakingAccessAwayCutsThoseWhoLostItAndNobodyElse(t *testing.T) {
	var n appstest.Net
	b := join(t, &n, "b", "bob")
	alice, carol, own := join(t, &n, "a", "alice"), join(t, &n, "c", "carol"), join(t, &n, "d", "bob")
	service := server(t, "web")
	b.offer(t, "tcp/web", service, `"users":["alice","carol"]`)
	b.offer(t, "tcp/other", service, `"users":["alice"]`)
	open := func(e *endpoint, name string) net.Conn {
		c := dial(t, e.listen(t, name))
		if _, err := readLine(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	cut := open(alice, "tcp/web")
	kept := map[string]net.Conn{"carol": open(carol, "tcp/web"), "bob": open(own, "tcp/web"), "other": open(alice, "tcp/other")}

	b.offer(t, "tcp/web", service, `"users":["carol"]`)

	if _, err := readLine(cut); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of a user without access: %v, want a reset", err)
	}
	wantKept := func() {
		t.Helper()
		for who, c := range kept {
			io.WriteString(c, "still here\n")
			if line, err := readLine(c); line != "still here" || err != nil {
				t.Errorf("the flow of %s: %q, %v", who, line, err)
			}
		}
	}
	wantKept()

	b.offer(t, "tcp/web", service, `"users":["carol"]`, fmt.Sprintf(`"entrances":[%q]`, own.Self().ID))
	if _, err := readLine(kept["carol"]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of an entrance without access: %v, want a reset", err)
	}
	delete(kept, "carol")
	wantKept()

	b.mustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
	if _, err := readLine(kept["bob"]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of a closed outbound: %v, want a reset", err)
	}
	delete(kept, "bob")
	wantKept()
}

func TestUnixSocketsServeBothEnds(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	dir := t.TempDir()
	ln, err := net.Listen("unix", dir+"/service")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ln, "service")
	b.offer(t, "tcp/web", "unix:"+dir+"/service")
	a.mustCall(t, "POST", "/inbound/tcp/web", `{"listens":["unix:`+dir+`/entrance"]}`, nil)
	wantGreeting(t, "unix:"+dir+"/entrance", "service")
}
