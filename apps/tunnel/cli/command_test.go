package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

// console is the command line at an endpoint.
type console struct {
	appstest.Console
	out, err appstest.Buffer
	last     any // the last value printed
}

func consoleAt(e *tunneltest.Endpoint) *console {
	c := &console{}
	c.Console = appstest.Console{Host: e.Host, Out: &c.out, Err: &c.err}
	return c
}

func (c *console) Print(v any, t *apps.Table) error {
	c.last = v
	return c.Console.Print(v, t)
}

func (c *console) Export(v any) error {
	c.last = v
	return c.Console.Export(v)
}

// run runs a command line, without `ztm`, and returns what it printed.
func (c *console) run(ctx context.Context, args ...string) (string, error) {
	all := commands(c)
	app := &cli.App{
		Name:           "ztm",
		ExitErrHandler: func(*cli.Context, error) {}, DisableSliceFlagSeparator: true,
		Writer: io.Discard, ErrWriter: io.Discard,
		Commands: append(all.Top, &cli.Command{Name: "get", Subcommands: all.Get},
			&cli.Command{Name: "describe", Subcommands: all.Describe}, &cli.Command{Name: "stats", Subcommands: all.Stats}),
	}
	before := len(c.out.String())
	err := app.RunContext(ctx, append([]string{"ztm"}, args...))
	return c.out.String()[before:], err
}

func (c *console) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(t.Context(), args...)
	if err != nil {
		t.Fatalf("ztm %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func TestCommandsOpenShowAndCloseATunnel(t *testing.T) {
	var n appstest.Net
	a, b, other := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice"), tunneltest.Join(t, &n, "shop", "bob")
	other.Offer(t, "tcp/db", "127.0.0.1:5432")
	laptop := consoleAt(a)
	home := consoleAt(b)
	service, address := tunneltest.Server(t, "web"), appstest.FreeAddress(t)

	tests := []struct {
		console *console
		args    string
		want    string
	}{
		{home, "tunnel open outbound --targets " + service + " --targets unix:/run/x --entrances laptop --users bob --users carol" +
			" --balance source --rate 10MB/s --rate-down 1MB/s --max-conns 9 --proxy-protocol v1 tcp/web",
			"NAME     TARGETS                        ENTRANCES  USERS       STATE\ntcp/web  " + service + ", unix:/run/x  laptop     bob, carol  untried\n"},
		{home, "describe outbound tcp/web", "Outbound: tcp/web\nEndpoint: home\nTarget: " + service + " untried (0 flows, 0 now)\n" +
			"Target: unix:/run/x untried (0 flows, 0 now)\nEntrances: laptop\nUsers: bob, carol\nBalance: source\nRate up: 10MB/s\n" +
			"Rate down: 1MB/s\nConnections: at most 9\nPROXY protocol: v1\nFlows: 0 flows, 0 now, 0 B up, 0 B down\n"},
		{home, "tunnel set out --targets " + service + " --entrances= --users= --balance= --rate 0 --max-conns 0 --proxy-protocol= tcp/web",
			"NAME     TARGETS          ENTRANCES  USERS         STATE\ntcp/web  " + service + "  (all)      (owner only)  untried\n"},
		{laptop, "tunnel open in --listen " + address + " --exits home tcp/web",
			"NAME     LISTENS          EXITS  STATE\ntcp/web  " + address + "  home   open\n"},
		{laptop, "get inbound", "NAME     LISTENS          EXITS  STATE\ntcp/web  " + address + "  home   open\n"},
		{laptop, "tunnel set in --exits= tcp/web", "NAME     LISTENS          EXITS  STATE\ntcp/web  " + address + "  (all)  open\n"},
		{laptop, "tunnel set in --exits home tcp/web", "NAME     LISTENS          EXITS  STATE\ntcp/web  " + address + "  home   open\n"},
		{home, "tunnel set out --users carol tcp/web",
			"NAME     TARGETS          ENTRANCES  USERS  STATE\ntcp/web  " + service + "  (all)      carol  untried\n"},
		{home, "tunnel set out --users= tcp/web",
			"NAME     TARGETS          ENTRANCES  USERS         STATE\ntcp/web  " + service + "  (all)      (owner only)  untried\n"},
		{laptop, "tunnel get in", "NAME     LISTENS          EXITS  STATE\ntcp/web  " + address + "  home   open\n"},
		{laptop, "get outbound", "NAME  TARGETS  ENTRANCES  USERS  STATE\n"},
		{laptop, "get tunnel", "NAME     INBOUND  OUTBOUND\ntcp/db   -        shop (bob)\ntcp/web  laptop   home\n"},
		{laptop, "tunnel get", "NAME     INBOUND  OUTBOUND\ntcp/db   -        shop (bob)\ntcp/web  laptop   home\n"},
		{laptop, "describe tunnel tcp/web", "Tunnel:    tcp/web\nInbound:   laptop\nOutbound:  home\n"},
		{laptop, "describe inbound tcp/web", "Inbound:   tcp/web\nEndpoint:  laptop\nListen:    " + address + "  open\nExits:     home\n" +
			"Flows:     0 flows, 0 now, 0 B up, 0 B down\n"},
		{home, "tunnel describe out tcp/web", "Outbound:   tcp/web\nEndpoint:   home\nTarget:     " + service + "  untried  (0 flows, 0 now)\n" +
			"Entrances:  (all endpoints of the users)\nUsers:      (owner only)\nFlows:      0 flows, 0 now, 0 B up, 0 B down\n"},
		{laptop, "tunnel close inbound tcp/web", ""},
		{home, "tunnel close out tcp/web", ""},
		{laptop, "get tun", "NAME    INBOUND  OUTBOUND\ntcp/db  -        shop (bob)\n"},
	}
	pad := strings.NewReplacer(service, strings.Repeat("s", len(service)), address, strings.Repeat("a", len(address)))
	for _, test := range tests {
		got := test.console.mustRun(t, strings.Fields(test.args)...)
		squeeze := func(s string) []string { return strings.Fields(pad.Replace(s)) }
		if diff := cmp.Diff(squeeze(test.want), squeeze(got)); diff != "" {
			t.Errorf("ztm %s (-want +got):\n%s", test.args, diff)
		}
	}
}

func TestAFailureIsShownWithTheNameOfTheExit(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice")
	nothing := appstest.FreeAddress(t)
	b.Offer(t, "tcp/web", nothing)
	tunneltest.WantReset(t, a.Listen(t, "tcp/web"))
	out := consoleAt(a).mustRun(t, "describe", "inbound", "tcp/web")
	if want := "exit home: target " + nothing + " refused"; !strings.Contains(out, want) || strings.Contains(out, string(b.Self().ID)) {
		t.Errorf("got\n%s\nwant %q", out, want)
	}
}

func TestCommandsRefuseWrongUsage(t *testing.T) {
	var n appstest.Net
	c := consoleAt(tunneltest.Join(t, &n, "laptop", "alice"))
	tests := []struct {
		args  string
		usage bool
		text  string
	}{
		{"tunnel open inbound --listen 1", true, "missing tcp/NAME"},
		{"tunnel open inbound --listen 1 web", true, "want tcp/NAME or udp/NAME"},
		{"tunnel open inbound tcp/web", true, "missing option --listen"},
		{"tunnel open inbound --listen :80 tcp/web", true, "--listen: address \":80\": write *:80"},
		{"tunnel open inbound --listen 1 tcp/web extra", true, `unexpected "extra"`},
		{"tunnel open outbound --users bob tcp/web", true, "missing option --targets"},
		{"tunnel open inbound --listen 0 --exits nobody tcp/web", false, `endpoint "nobody" not found`},
		{"get inbound extra", true, `unexpected "extra"`},
		{"describe inbound tcp/web", false, "endpoint laptop has no inbound tcp/web"},
		{"describe tunnel tcp/web", false, "tunnel tcp/web not found"},
		{"tunnel close outbound tcp/web", false, "endpoint laptop has no outbound tcp/web"},
	}
	for _, test := range tests {
		_, err := c.run(t.Context(), strings.Fields(test.args)...)
		var usage *apps.UsageError
		if err == nil || errors.As(err, &usage) != test.usage || !strings.Contains(err.Error(), test.text) {
			t.Errorf("ztm %s: %T %v; want %q, wrong usage: %v", test.args, err, err, test.text, test.usage)
		}
	}
}

func TestSurveyGoesOnWithoutAnEndpointThatDoesNotAnswer(t *testing.T) {
	var n appstest.Net
	a := tunneltest.Join(t, &n, "laptop", "alice")
	n.Join("home", "alice") // which has no such app
	a.Listen(t, "tcp/web")
	c := consoleAt(a)
	c.mustRun(t, "get", "tunnel")
	want := []ManifestTunnel{{
		Name:    "tcp/web",
		Inbound: []ManifestInbound{{"laptop", spec.InboundSpec{Listens: []spec.Address{{Host: "127.0.0.1"}}}}},
	}}
	if diff := cmp.Diff(want, c.last); diff != "" {
		t.Errorf("the survey (-want +got):\n%s", diff)
	}
	if !strings.Contains(c.err.String(), "endpoint home:") {
		t.Errorf("standard error says %q", c.err.String())
	}
}

func TestWhatIsPrintedAsJSONHasTheFieldsOfTheAPI(t *testing.T) {
	var n appstest.Net
	c := consoleAt(tunneltest.Join(t, &n, "laptop", "alice"))
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", "127.0.0.1:0", "tcp/web")
	b, err := json.Marshal(c.last)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"protocol":"tcp"`, `"name":"web"`, `"listens":["127.0.0.1:0"]`, `"open":true`, `"flows":0`} {
		if !bytes.Contains(b, []byte(field)) {
			t.Errorf("%s has no %s", b, field)
		}
	}
}

func TestListWithoutAValueIsEmpty(t *testing.T) {
	for _, empty := range []string{"", "off"} {
		t.Run(empty, func(t *testing.T) {
			var n appstest.Net
			a := tunneltest.Join(t, &n, "laptop", "alice")
			c := consoleAt(a)
			a.Offer(t, "tcp/web", "127.0.0.1:80", `"users":["bob"]`, fmt.Sprintf(`"entrances":[%q]`, a.Self().ID))
			a.Listen(t, "tcp/web", fmt.Sprintf(`"exits":[%q]`, a.Self().ID))
			c.mustRun(t, "tunnel", "set", "outbound", "--users="+empty, "--entrances="+empty, "tcp/web")
			if o := a.OutboundStatus(t, "tcp/web").Outbound; len(o.Users)+len(o.Entrances) > 0 {
				t.Errorf("left are users %v and entrances %v", o.Users, o.Entrances)
			}
			c.mustRun(t, "tunnel", "set", "inbound", "--exits="+empty, "--listen="+empty, "tcp/web")
			if in := a.InboundStatus(t, "tcp/web"); len(in.Exits)+len(in.Listeners) > 0 || inboundState(&in) != "closed" {
				t.Errorf("left are exits %v and listeners %v: %s", in.Exits, in.Listeners, inboundState(&in))
			}
			if out, err := c.run(t.Context(), "tunnel", "set", "outbound", "--targets="+empty, "tcp/web"); err == nil {
				t.Errorf("an outbound has no target:\n%s", out)
			}
		})
	}
}

func TestOpenDoesNotMoveATunnel(t *testing.T) {
	var n appstest.Net
	a := tunneltest.Join(t, &n, "laptop", "alice")
	c := consoleAt(a)
	here, there := appstest.FreeAddress(t), appstest.FreeAddress(t)
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", here, "tcp/web")
	c.mustRun(t, "tunnel", "open", "inbound", "--listen", here, "--max-conns", "9", "tcp/web")
	c.mustRun(t, "tunnel", "open", "outbound", "--targets", here, "tcp/web")
	for _, args := range []string{"inbound --listen " + there, "outbound --users bob --targets " + there} {
		_, err := c.run(t.Context(), strings.Fields("tunnel open "+args+" tcp/web")...)
		if answer.CodeOf(err) != answer.Conflict || !strings.Contains(err.Error(), here) {
			t.Errorf("open %s: %v, want a conflict with %s", args, err, here)
		}
	}
	if got := a.InboundStatus(t, "tcp/web"); got.Listens[0].String() != here || got.MaxConns != 9 {
		t.Errorf("the inbound is %+v", got.Inbound)
	}
}
