package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

func openTarget(t *testing.T, e, to *tunneltest.Endpoint, target string) (net.Conn, error) {
	t.Helper()
	c, err := e.Open(t.Context(), to.Self().ID, "tunnel/forward/tcp", url.Values{spec.TargetParam: {target}})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestWithoutARuleOnlyTheOwnUserReachesATarget(t *testing.T) {
	var n appstest.Net
	own, alice, b := tunneltest.Join(t, &n, "o", "bob"), tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	service := tunneltest.Server(t, "web")
	if c, err := openTarget(t, own, b, service); err != nil {
		t.Errorf("own user: %v", err)
	} else if line, _ := tunneltest.ReadLine(c); line != "web" {
		t.Errorf("own user got %q", line)
	}
	if _, err := openTarget(t, alice, b, service); answer.CodeOf(err) != answer.Denied {
		t.Errorf("another user: %v", err)
	}
	p := appstest.Port(service)
	tests := []struct {
		rule, target string
		code         answer.Code // "" for success
	}{
		{"127.0.0.0/8:" + p, service, ""},
		{"127.0.0.0/8:1", service, answer.Denied},
		{"10.0.0.0/8:*", service, answer.Denied},
		{"127.0.0.1:" + p, "localhost:" + p, ""},            // for the address that it has
		{"10.0.0.0/8:*", "localhost:" + p, answer.Denied},   // none of its addresses
		{"localhost:" + p, "localhost:" + p, ""},            // by its name
		{"localhost:" + p, "127.0.0.1:" + p, answer.Denied}, // the address was not what was allowed
		{"127.0.0.0/8:*", "no-such-host.invalid:80", answer.DNS},
		{"127.0.0.0/8:*", "unix:/run/x", answer.Denied},
		{"127.0.0.0/8:*", "0.0.0.0:" + p, answer.BadRequest},
		{"127.0.0.0/8:*", appstest.FreeAddress(t), answer.Refused},
		{"127.0.0.0/8:*", "127.0.0.1:80-90", answer.BadRequest},
		{"127.0.0.0/8:*", "", answer.BadRequest},
	}
	for _, test := range tests {
		t.Run(test.rule+" "+test.target, func(t *testing.T) {
			rule := fmt.Sprintf(`{"target":%q,"users":["alice"]}`, test.rule)
			b.MustCall(t, "POST", "/allow", rule, nil)
			defer b.MustCall(t, "POST", "/allow", fmt.Sprintf(`{"target":%q}`, test.rule), nil)
			if _, err := openTarget(t, alice, b, test.target); answer.CodeOf(err) != test.code {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
	if list := b.App.Status().Allow; len(list) != 0 {
		t.Errorf("left over: %v", list)
	}
}

func TestRulesAreKeptAndTakingOneAwayCutsItsFlows(t *testing.T) {
	var n appstest.Net
	alice, carol, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "c", "carol"), tunneltest.Join(t, &n, "b", "bob")
	service := tunneltest.Server(t, "web")
	target := "127.0.0.0/8:" + appstest.Port(service)
	allow := func(users string) {
		t.Helper()
		b.MustCall(t, "POST", "/allow", fmt.Sprintf(`{"target":%q,"users":[%s]}`, target, users), nil)
	}
	allow(`"alice","carol"`)
	b.Stop()
	b.Run(t)
	cut, err := openTarget(t, alice, b, service)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := openTarget(t, carol, b, service)
	if err != nil {
		t.Fatal(err)
	}
	tunneltest.ReadLine(cut)
	tunneltest.ReadLine(kept)
	allow(`"carol"`)
	if _, err := tunneltest.ReadLine(cut); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of a user without a rule: %v, want a reset", err)
	}
	io.WriteString(kept, "still here\n")
	if line, err := tunneltest.ReadLine(kept); line != "still here" {
		t.Errorf("the flow of the other user: %q, %v", line, err)
	}
	if err := b.Call("POST", "/allow", `{"target":"10.0.0.0/8:1"}`, nil); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("removing a rule that is not there: %v", err)
	}
}

func TestWhoHasLeftReachesNothingAndIsListenedForNoMore(t *testing.T) {
	var n appstest.Net
	a, bob, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "o", "bob"), tunneltest.Join(t, &n, "b", "bob")
	service := tunneltest.Server(t, "web")
	b.MustCall(t, "POST", "/allow", fmt.Sprintf(`{"target":"127.0.0.1:%s","users":["alice"]}`, appstest.Port(service)), nil)
	allowed, err := openTarget(t, a, b, service)
	if err != nil {
		t.Fatal(err)
	}
	listen := appstest.FreeAddress(t)
	q := url.Values{spec.ListenParam: {listen}, spec.TargetParam: {service}}
	reverse, err := bob.Open(t.Context(), b.Self().ID, "tunnel/reverse/tcp", q)
	if err != nil {
		t.Fatal(err)
	}
	defer reverse.Close()
	tunneltest.WantGreeting(t, listen, "web")
	n.Evict("alice")
	if _, err := io.Copy(io.Discard, allowed); err == nil {
		t.Error("the flow of the evicted user came to a good end")
	}
	tunneltest.WantGreeting(t, listen, "web") // which is another user's
	n.Evict("bob")
	appstest.Eventually(t, "nobody listens", func() bool { return !appstest.Taken(spec.TCP, listen) })
}
