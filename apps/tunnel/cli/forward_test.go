package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

func TestParseForwarding(t *testing.T) {
	tests := []struct{ in, protocol, listen, target string }{
		{"8080:db.local:80", spec.TCP, "127.0.0.1:8080", "db.local:80"},
		{"0.0.0.0:8080:db.local:80", spec.TCP, "0.0.0.0:8080", "db.local:80"},
		{"*:8080:db.local:80", spec.TCP, "*:8080", "db.local:80"},
		{"[::1]:8080:[fd00::1]:80", spec.TCP, "[::1]:8080", "[fd00::1]:80"},
		{"8080:[fd00::1]:80", spec.TCP, "127.0.0.1:8080", "[fd00::1]:80"},
		{"8080:80", spec.TCP, "127.0.0.1:8080", "127.0.0.1:80"},
		{"5432", spec.TCP, "127.0.0.1:5432", "127.0.0.1:5432"},
		{"5353:10.0.0.1:53/udp", spec.UDP, "127.0.0.1:5353", "10.0.0.1:53"},
		{"8080:80/tcp", spec.TCP, "127.0.0.1:8080", "127.0.0.1:80"},
		{"7000-7010:host:8000-8010", spec.TCP, "127.0.0.1:7000-7010", "host:8000-8010"},
		{"unix:/run/a:80", spec.TCP, "unix:/run/a", "127.0.0.1:80"},
		{"unix:/run/a:db:80", spec.TCP, "unix:/run/a", "db:80"},
		{"8080:unix:/run/a", spec.TCP, "127.0.0.1:8080", "unix:/run/a"},
		{"127.0.0.1:8080:unix:/run/a", spec.TCP, "127.0.0.1:8080", "unix:/run/a"},
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
	a := tunneltest.Join(t, &n, "laptop", "alice")
	tunneltest.Join(t, &n, "home", "alice")
	c := consoleAt(a)
	here, hereUDP := appstest.FreeAddress(t), appstest.FreeAddress(t)
	service, serviceUDP := tunneltest.Server(t, "web"), tunneltest.UdpServer(t, "re: ")
	command := c.start(t, "forward", "home", here+":"+service, hereUDP+":"+serviceUDP+"/udp")
	appstest.Eventually(t, "both listen", func() bool { return strings.Count(c.out.String(), "at home\n") == 2 })
	tunneltest.WantGreeting(t, here, "web")
	if got := tunneltest.Exchange(t, tunneltest.DialUDP(t, hereUDP), []byte("x")); string(got) != "re: x" {
		t.Errorf("over UDP: %q", got)
	}
	appstest.Eventually(t, "the connections are shown", func() bool {
		return strings.Count(c.out.String(), " connected\n") == 2 && strings.Contains(c.out.String(), "0 B up, 4 B down")
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
	a, b := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice")
	c := consoleAt(a)
	there, dead := appstest.FreeAddress(t), appstest.FreeAddress(t)
	command := c.start(t, "forward", "--reverse", "home", there+":"+tunneltest.Server(t, "web"), dead+":"+appstest.FreeAddress(t))
	appstest.Eventually(t, "both listen", func() bool { return strings.Count(c.out.String(), " here\n") == 2 })
	tunneltest.WantGreeting(t, there, "web")
	tunneltest.WantReset(t, dead)
	appstest.Eventually(t, "the connections are shown", func() bool {
		return strings.Contains(c.out.String(), " connected\n") && strings.Contains(c.out.String(), "refused the connection")
	})
	if err := b.Call("POST", "/inbound/tcp/x", `{"listens":["`+there+`"]}`, nil); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("an inbound on the same port: %v", err)
	}
	if err := command.stop(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	appstest.Eventually(t, "nobody listens there any longer", func() bool {
		c, err := net.Dial("tcp", there)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func TestForwardFailsAtOnceWhenItCannotWork(t *testing.T) {
	var n appstest.Net
	a := tunneltest.Join(t, &n, "laptop", "alice")
	tunneltest.Join(t, &n, "shop", "bob")
	c := consoleAt(a)
	tests := []struct {
		args string
		text string
	}{
		{"forward", "missing EP"},
		{"forward shop", "missing [IP:]PORT"},
		{"forward shop a:b:c:d:e", "want [IP:]PORT:HOST:PORT"},
		{"forward nobody 1:2", `endpoint "nobody" not found`},
		{"forward shop 0:10.0.0.1:80", "not allowed (ref 000000): ask the owner of shop"},
		{"forward --reverse shop 0:10.0.0.1:80", "not allowed (ref 000000): ask the owner of shop"},
		{"forward . " + tunneltest.Server(t, "x") + ":127.0.0.1:80", "the address is in use"},
		{"nc shop 10.0.0.1:80", "not allowed (ref 000000): ask the owner of shop"},
		{"nc . " + appstest.FreeAddress(t), "refused the connection"},
		{"nc shop", "want EP and HOST:PORT"},
	}
	for _, test := range tests {
		if err := c.start(t, strings.Fields(test.args)...).wait(); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("ztm %s: %v, want %q", test.args, err, test.text)
		}
	}
}

func TestNetcatCarriesStandardInputAndOutput(t *testing.T) {
	var n appstest.Net
	a := tunneltest.Join(t, &n, "laptop", "alice")
	tunneltest.Join(t, &n, "home", "alice")
	c := consoleAt(a)
	c.In = strings.NewReader("one\ntwo\n")
	if err := c.start(t, "nc", "home", tunneltest.Server(t, "web")).wait(); err != nil {
		t.Fatal(err)
	}
	if got := c.out.String(); got != "web\none\ntwo\n" {
		t.Errorf("got %q", got)
	}
}

func TestNetcatThatDoesNotReachItsEndSaysSo(t *testing.T) {
	var n appstest.Net
	a := tunneltest.Join(t, &n, "laptop", "alice")
	tunneltest.Join(t, &n, "home", "alice")
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
	command = c.start(t, "nc", "home", tunneltest.Server(t, "web"))
	appstest.Eventually(t, "it is connected", func() bool { return c.out.String() == "web\n" })
	if err := command.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
