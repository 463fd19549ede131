package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestParseForwarding(t *testing.T) {
	tests := []struct{ in, protocol, listen, target string }{
		{"8080:db.local:80", TCP, "127.0.0.1:8080", "db.local:80"},
		{"0.0.0.0:8080:db.local:80", TCP, "0.0.0.0:8080", "db.local:80"},
		{"*:8080:db.local:80", TCP, "*:8080", "db.local:80"},
		{"[::1]:8080:[fd00::1]:80", TCP, "[::1]:8080", "[fd00::1]:80"},
		{"8080:[fd00::1]:80", TCP, "127.0.0.1:8080", "[fd00::1]:80"},
		{"8080:80", TCP, "127.0.0.1:8080", "127.0.0.1:80"},
		{"5432", TCP, "127.0.0.1:5432", "127.0.0.1:5432"},
		{"5353:10.0.0.1:53/udp", UDP, "127.0.0.1:5353", "10.0.0.1:53"},
		{"8080:80/tcp", TCP, "127.0.0.1:8080", "127.0.0.1:80"},
		{"7000-7010:host:8000-8010", TCP, "127.0.0.1:7000-7010", "host:8000-8010"},
		{"unix:/run/a:80", TCP, "unix:/run/a", "127.0.0.1:80"},
		{"unix:/run/a:db:80", TCP, "unix:/run/a", "db:80"},
		{"8080:unix:/run/a", TCP, "127.0.0.1:8080", "unix:/run/a"},
		{"127.0.0.1:8080:unix:/run/a", TCP, "127.0.0.1:8080", "unix:/run/a"},
	}
	for _, test := range tests {
		f, err := parseForwarding(test.in)
		got := []string{f.protocol, f.listen.String(), f.target.String()}
		if diff := cmp.Diff([]string{test.protocol, test.listen, test.target}, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", test.in, err, diff)
		}
	}
	for _, in := range []string{"", "a:b:c:d:e", "8080:host:", "8080:host:0", "8080:*:80", "7000-7010:host:80", "host:http", "1:2:3:4:5", "80:unix:x"} {
		if f, err := parseForwarding(in); err == nil {
			t.Errorf("%q became %+v", in, f)
		}
	}
}

func (e *endpoint) openTarget(t *testing.T, to *endpoint, target string) (net.Conn, error) {
	t.Helper()
	c, err := e.Open(t.Context(), to.Self().ID, "tunnel/forward/tcp", url.Values{targetParam: {target}})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestWithoutARuleOnlyTheOwnUserReachesATarget(t *testing.T) {
	var n appstest.Net
	own, alice, b := join(t, &n, "o", "bob"), join(t, &n, "a", "alice"), join(t, &n, "b", "bob")
	service := server(t, "web")
	if c, err := own.openTarget(t, b, service); err != nil {
		t.Errorf("own user: %v", err)
	} else if line, _ := readLine(c); line != "web" {
		t.Errorf("own user got %q", line)
	}
	if _, err := alice.openTarget(t, b, service); answer.CodeOf(err) != answer.Denied {
		t.Errorf("another user: %v", err)
	}
	p := port(service)
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
			b.mustCall(t, "POST", "/allow", rule, nil)
			defer b.mustCall(t, "POST", "/allow", fmt.Sprintf(`{"target":%q}`, test.rule), nil)
			if _, err := alice.openTarget(t, b, test.target); answer.CodeOf(err) != test.code {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
	if list := b.app.Status().Allow; len(list) != 0 {
		t.Errorf("left over: %v", list)
	}
}

func TestRulesAreKeptAndTakingOneAwayCutsItsFlows(t *testing.T) {
	var n appstest.Net
	alice, carol, b := join(t, &n, "a", "alice"), join(t, &n, "c", "carol"), join(t, &n, "b", "bob")
	service := server(t, "web")
	target := "127.0.0.0/8:" + port(service)
	allow := func(users string) {
		t.Helper()
		b.mustCall(t, "POST", "/allow", fmt.Sprintf(`{"target":%q,"users":[%s]}`, target, users), nil)
	}
	allow(`"alice","carol"`)
	b.stop()
	b.run(t)
	cut, err := alice.openTarget(t, b, service)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := carol.openTarget(t, b, service)
	if err != nil {
		t.Fatal(err)
	}
	readLine(cut)
	readLine(kept)
	allow(`"carol"`)
	if _, err := readLine(cut); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of a user without a rule: %v, want a reset", err)
	}
	io.WriteString(kept, "still here\n")
	if line, err := readLine(kept); line != "still here" {
		t.Errorf("the flow of the other user: %q, %v", line, err)
	}
	if err := b.call("POST", "/allow", `{"target":"10.0.0.0/8:1"}`, nil); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("removing a rule that is not there: %v", err)
	}
}

// foreground is a command that runs.
type foreground struct {
	cancel context.CancelFunc
	done   chan error // capacity 1
}

func (c *console) start(t *testing.T, args ...string) *foreground {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	app := &cli.App{Name: "ztm", Commands: commands(c).Top, Writer: io.Discard, ErrWriter: io.Discard,
		ExitErrHandler: func(*cli.Context, error) {}}
	f := &foreground{cancel, make(chan error, 1)}
	go func() { f.done <- app.RunContext(ctx, append([]string{"ztm"}, args...)) }()
	t.Cleanup(cancel)
	return f
}

// wait waits until the command ends by itself.
func (f *foreground) wait() error { return <-f.done }

// stop interrupts the command.
func (f *foreground) stop() error {
	f.cancel()
	return <-f.done
}

func TestForwardTakesConnectionsHereToATargetThere(t *testing.T) {
	var n appstest.Net
	a := join(t, &n, "laptop", "alice")
	join(t, &n, "home", "alice")
	c := consoleAt(a)
	here, hereUDP := appstest.FreeAddress(t), appstest.FreeAddress(t)
	service, serviceUDP := server(t, "web"), udpServer(t, "re: ")
	command := c.start(t, "forward", "home", here+":"+service, hereUDP+":"+serviceUDP+"/udp")
	appstest.Eventually(t, "both listen", func() bool { return strings.Count(c.out.String(), "at home\n") == 2 })
	wantGreeting(t, here, "web")
	if got := exchange(t, dialUDP(t, hereUDP), []byte("x")); string(got) != "re: x" {
		t.Errorf("over UDP: %q", got)
	}
	appstest.Eventually(t, "the connections are shown", func() bool {
		return strings.Count(c.out.String(), " connected\n") == 2 && strings.Contains(c.out.String(), "0 bytes up, 4 bytes down")
	})
	if err := command.stop(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	if late, err := net.Dial("tcp", here); err == nil {
		late.Close()
		t.Error("it still listens")
	}
}

func TestReverseForwardTakesConnectionsThereToATargetHere(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "laptop", "alice"), join(t, &n, "home", "alice")
	c := consoleAt(a)
	there, dead := appstest.FreeAddress(t), appstest.FreeAddress(t)
	command := c.start(t, "forward", "--reverse", "home", there+":"+server(t, "web"), dead+":"+appstest.FreeAddress(t))
	appstest.Eventually(t, "both listen", func() bool { return strings.Count(c.out.String(), " here\n") == 2 })
	wantGreeting(t, there, "web")
	wantReset(t, dead)
	appstest.Eventually(t, "the connections are shown", func() bool {
		return strings.Contains(c.out.String(), " connected\n") && strings.Contains(c.out.String(), "refused the connection")
	})
	if err := b.call("POST", "/inbound/tcp/x", `{"listens":["`+there+`"]}`, nil); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("an inbound on the same port: %v", err)
	}
	if err := command.stop(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	appstest.Eventually(t, "nobody listens there any more", func() bool {
		c, err := net.Dial("tcp", there)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func TestForwardFailsAtOnceWhenItCannotWork(t *testing.T) {
	var n appstest.Net
	a := join(t, &n, "laptop", "alice")
	join(t, &n, "shop", "bob")
	c := consoleAt(a)
	tests := []struct {
		args string
		text string
	}{
		{"forward", "the name of the endpoint is missing"},
		{"forward shop", "what to forward is missing"},
		{"forward shop a:b:c:d:e", "want [IP:]PORT:HOST:PORT"},
		{"forward nobody 1:2", `endpoint "nobody" not found`},
		{"forward shop 0:10.0.0.1:80", "endpoint shop does not allow user alice to reach 10.0.0.1:80"},
		{"forward --reverse shop 0:10.0.0.1:80", "endpoint shop does not listen for user alice"},
		{"forward . " + server(t, "x") + ":127.0.0.1:80", "the address is in use"},
		{"nc shop 10.0.0.1:80", "endpoint shop does not allow user alice to reach 10.0.0.1:80"},
		{"nc . " + appstest.FreeAddress(t), "refused the connection"},
		{"nc shop", "want an endpoint and HOST:PORT"},
	}
	for _, test := range tests {
		if err := c.start(t, strings.Fields(test.args)...).wait(); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("ztm %s: %v, want %q", test.args, err, test.text)
		}
	}
}

func TestNetcatCarriesStandardInputAndOutput(t *testing.T) {
	var n appstest.Net
	a := join(t, &n, "laptop", "alice")
	join(t, &n, "home", "alice")
	c := consoleAt(a)
	c.In = strings.NewReader("one\ntwo\n")
	if err := c.start(t, "nc", "home", server(t, "web")).wait(); err != nil {
		t.Fatal(err)
	}
	if got := c.out.String(); got != "web\none\ntwo\n" {
		t.Errorf("got %q", got)
	}
}

func TestNetcatThatDoesNotReachItsEndSaysSo(t *testing.T) {
	var n appstest.Net
	a := join(t, &n, "laptop", "alice")
	join(t, &n, "home", "alice")
	nothing := appstest.FreeAddress(t)

	c := consoleAt(a)
	in, typing := io.Pipe()
	defer typing.Close()
	c.In = in
	command := c.start(t, "nc", "--udp", "home", nothing)
	go func() { // ends with the pipe
		for {
			if _, err := io.WriteString(typing, "anybody there?"); err != nil {
				return
			}
		}
	}()
	if err := command.wait(); answer.CodeOf(err) != answer.Broken || !strings.Contains(err.Error(), nothing) {
		t.Errorf("where nobody takes datagrams: %v", err)
	}

	c = consoleAt(a)
	quiet, closing := io.Pipe()
	defer closing.Close()
	c.In = quiet
	command = c.start(t, "nc", "home", server(t, "web"))
	appstest.Eventually(t, "it is connected", func() bool { return c.out.String() == "web\n" })
	if err := command.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestWhoHasLeftReachesNothingAndIsListenedForNoMore(t *testing.T) {
	var n appstest.Net
	a, bob, b := join(t, &n, "a", "alice"), join(t, &n, "o", "bob"), join(t, &n, "b", "bob")
	service := server(t, "web")
	b.mustCall(t, "POST", "/allow", fmt.Sprintf(`{"target":"127.0.0.1:%s","users":["alice"]}`, port(service)), nil)
	allowed, err := a.openTarget(t, b, service)
	if err != nil {
		t.Fatal(err)
	}
	listen := appstest.FreeAddress(t)
	q := url.Values{listenParam: {listen}, targetParam: {service}}
	reverse, err := bob.Open(t.Context(), b.Self().ID, "tunnel/reverse/tcp", q)
	if err != nil {
		t.Fatal(err)
	}
	defer reverse.Close()
	wantGreeting(t, listen, "web")
	n.Evict("alice")
	if _, err := io.Copy(io.Discard, allowed); err == nil {
		t.Error("the flow of the evicted user came to a good end")
	}
	wantGreeting(t, listen, "web") // which is another user's
	n.Evict("bob")
	appstest.Eventually(t, "nobody listens", func() bool { return !taken(TCP, listen) })
}
