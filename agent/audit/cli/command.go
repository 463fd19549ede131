// Package cli is the command `ztm audit`.
package cli

import (
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent/audit"
	"ztm/agent/console"
	"ztm/apps"
)

// Command is `ztm audit`.
func Command(c *console.Console) *cli.Command {
	a := commands{c}
	return &cli.Command{
		Name: "audit", Category: apps.AtEndpoint, Usage: "show who reached what at an endpoint, and who was refused",
		Description: "A line is written when a flow ends, when one is refused, and when something is changed. Repeats within 10 s are\n" +
			"one line. Flows of the endpoint's own user are left out. The newest lines are kept in memory.\n\n" + apps.Example(
			"ztm audit --since 2h --refused", "ztm ep nas audit -f --user bob", "ztm audit -f -o json | grep tcp/db"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new lines"},
			&cli.StringFlag{Name: "user", Usage: "only flows of `USER`"},
			&cli.StringFlag{Name: "peer", Usage: "only flows of the endpoint `EP`, a name or an ID"},
			&cli.StringFlag{Name: "app", Usage: "only flows to `APP`"},
			&cli.StringFlag{Name: "since", Usage: "only lines of the last `TIME`, such as 2h, or since 2026-11-28T10:00:00Z"},
			&cli.BoolFlag{Name: "refused", Usage: "only what was refused or cut"},
		},
		Action: func(x *cli.Context) error {
			f, err := filter(x)
			if err != nil {
				return err
			}
			return a.show(x.Context, f, x.Bool("follow"))
		},
		Subcommands: []*cli.Command{{
			Name: "forget", Category: apps.AtEndpoint, ArgsUsage: "USER", Usage: "drop the lines about a user",
			Description: "That lines were dropped is recorded, and how many; whose they were is not.\n\n" + apps.Example("ztm audit forget bob"),
			Action:      func(x *cli.Context) error { return a.forget(x.Context, x.Args().First()) },
		}},
	}
}

// filter is what the options of a command line ask for.
func filter(x *cli.Context) (audit.Filter, error) {
	f := audit.Filter{User: x.String("user"), Peer: x.String("peer"), App: x.String("app"), Refused: x.Bool("refused")}
	since := x.String("since")
	if since == "" {
		return f, nil
	}
	if d, err := apps.ParseDuration(since); err == nil {
		f.Since = time.Now().Add(-time.Duration(d))
		return f, nil
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return f, apps.Usagef("--since %q: want a span of time such as 2h, or a time such as 2026-11-28T10:00:00Z", since)
	}
	f.Since = at
	return f, nil
}
