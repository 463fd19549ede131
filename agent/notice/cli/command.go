// Package cli is the command `ztm notice`.
package cli

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/agent/notice"
	"ztm/apps"
)

// commands holds the Actions of the commands.
type commands struct{ *console.Console }

// Command is `ztm notice`.
func Command(c *console.Console) *cli.Command {
	n := commands{c}
	return &cli.Command{
		Name: "notice", Usage: "be told when something happens that should not wait",
		Description: apps.Example("ztm notice config --command /usr/local/bin/tell", "ztm notice test"),
		Subcommands: []*cli.Command{
			{
				Name: "config", Category: apps.AtEndpoint, Usage: "show or set who is told",
				Description: "Told are: an endpoint of yours that goes or comes, the target of a tunnel that cannot be reached or is again, an\n" +
					"eviction, a certificate that was not renewed, a user who is refused 20 times within a minute, and a group with notify\n" +
					"that is changed or used; the same not again for 10 minutes. The command gets a notice as JSON on its standard\n" +
					"input, and as ZTM_NOTICE, ZTM_NOTICE_ABOUT, ZTM_NOTICE_TEXT, ZTM_NOTICE_MESH and ZTM_NOTICE_ENDPOINT. It is set on the\n" +
					"device itself, and is killed after 30 s.\n\n" + apps.Example(
					"ztm notice config --command /usr/local/bin/tell", "ztm notice config --webhook https://chat.example.com/ztm --secret-file secret.txt",
					"ztm notice config --command '' --webhook ''"),
				Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "command", Usage: "run `PROGRAM`, an absolute path, with these arguments; empty for none"},
					&cli.StringFlag{Name: "webhook", Usage: "send notices to `URL`; empty for none"},
					&cli.StringFlag{Name: "secret-file", Usage: "sign what is sent there with the first line of `FILE`"},
				},
				Action: func(x *cli.Context) error { return n.config(x) },
			},
			{
				Name: "test", Category: apps.AtEndpoint, Usage: "tell a notice, to see whether it comes",
				Description: apps.Example("ztm notice test"),
				Action: func(x *cli.Context) error {
					return n.test(x.Context)
				},
			},
		},
	}
}

func (c commands) ask(ctx context.Context, method string, in, out any) error {
	path, err := c.At(ctx, "notice")
	if err != nil {
		return err
	}
	return c.Do(ctx, method, path, in, out)
}

// test tells a notice. That it is on its way is all that is known: the agent tells one after the other.
func (c commands) test(ctx context.Context) error {
	var s notice.Settings
	if err := c.ask(ctx, http.MethodPost, nil, &s); err != nil {
		return err
	}
	if len(s.Command) == 0 && s.Webhook == "" {
		return &apps.HintError{Err: errors.New("nobody is told: no command and no webhook is set"), Hint: "set one with: ztm notice config --command PROGRAM"}
	}
	c.Note("a notice is on its way; where it does not come, the reason is in: ztm log ep")
	return nil
}

func (c commands) config(x *cli.Context) error {
	var s notice.Settings
	if err := c.ask(x.Context, http.MethodGet, nil, &s); err != nil {
		return err
	}
	if x.NumFlags() > 0 {
		if x.IsSet("command") {
			if s.Command = x.StringSlice("command"); len(s.Command) == 1 && s.Command[0] == "" {
				s.Command = nil
			}
		}
		if x.IsSet("webhook") {
			s.Webhook = x.String("webhook")
		}
		if x.IsSet("secret-file") {
			b, err := os.ReadFile(x.String("secret-file"))
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(string(b), "\n")
			s.Secret = strings.TrimSpace(first)
		}
		if err := c.ask(x.Context, http.MethodPut, s, &s); err != nil {
			return err
		}
	}
	t := &apps.Table{}
	t.Add("Command:", cmp.Or(strings.Join(s.Command, " "), "-"))
	t.Add("Webhook:", cmp.Or(s.Webhook, "-"))
	return c.Print(s, t)
}
