// Package cli is the command `ztm audit`.
package cli

import (
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent/audit"
	"ztm/agent/audit/sink"
	"ztm/agent/console"
	"ztm/agent/feature"
	"ztm/apps"
)

// Command is `ztm audit`.
func Command(c *console.Console) *cli.Command {
	a := commands{c}
	command := &cli.Command{
		Name: "audit", Category: apps.AtEndpoint, Usage: "show who reached what at an endpoint, and who was refused",
		Description: "A line is written when a flow ends, when one is refused, and when something is changed. Repeats within 10 s are\n" +
			"one line. Flows of the endpoint's own user are left out. The newest lines are kept in memory.\n\n" + apps.Example(
			"ztm audit --since 2h --refused", "ztm audit --ref 7f3a19", "ztm ep nas audit -f --user bob", "ztm audit -f -o json | grep tcp/db"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new lines"},
			&cli.StringFlag{Name: "user", Usage: "only flows of `USER`"},
			&cli.StringFlag{Name: "peer", Aliases: []string{"ep"}, Usage: "only flows of the endpoint `EP`, a name or an ID"},
			&cli.StringFlag{Name: "app", Usage: "only flows to `APP`"},
			&cli.StringFlag{Name: "ref", Usage: "only what was refused with `REF`, which whoever was refused can read out"},
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
		Subcommands: []*cli.Command{configCommand(a), {
			Name: "forget", Category: apps.AtEndpoint, ArgsUsage: "USER", Usage: "drop the lines about a user",
			Description: "That lines were dropped is recorded, and how many; whose they were is not.\n\n" + apps.Example("ztm audit forget bob"),
			Action:      func(x *cli.Context) error { return a.forget(x.Context, x.Args().First()) },
		}},
	}
	if feature.Audit {
		command.Subcommands = append(command.Subcommands, verifyCommand(a))
	}
	return command
}

func verifyCommand(a commands) *cli.Command {
	return &cli.Command{
		Name: "verify", Category: apps.Device, ArgsUsage: "FILE...", Usage: "check files of an audit log, the oldest first",
		Description: "Each line names the hash of the line before, and the endpoint's key signs a checkpoint each minute: what was changed,\n" +
			"left out or put in shows. Against who has the device itself only copies help that are kept elsewhere.\n\n" + apps.Example("ztm audit verify demo.jsonl.1 demo.jsonl"),
		Action: func(x *cli.Context) error { return a.verify(x.Args().Slice()) },
	}
}

// filter is what the options of a command line ask for.
func filter(x *cli.Context) (audit.Filter, error) {
	f := audit.Filter{User: x.String("user"), Peer: x.String("peer"), App: x.String("app"), Ref: x.String("ref"), Refused: x.Bool("refused")}
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

func configCommand(a commands) *cli.Command {
	return &cli.Command{
		Name: "config", Category: apps.AtEndpoint, Usage: "show or set where the audit log goes",
		Description: "Without options it shows what is set. The file is audit/MESH.jsonl in the data directory of the agent, with one JSON\n" +
			"object a line. It is not written while less than 64 MB are free.\n\n" + apps.Example(
			"ztm audit config --file on", "ztm ep nas audit config --own on",
			"ztm audit config --syslog tcp://log.example.com:601", "ztm audit config --webhook https://siem.example.com/ztm --secret-file secret.txt"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "own", Usage: "also flows of the endpoint's own user: `on|off`"},
			&cli.StringFlag{Name: "file", Usage: "keep lines in a file: `on|off`"},
			&cli.IntFlag{Name: "file-size", Usage: "begin a new file at `MB`"},
			&cli.IntFlag{Name: "file-count", Usage: "keep `NUMBER` files"},
			&cli.StringFlag{Name: "syslog", Usage: "send lines to syslog at `ADDRESS`, udp://HOST:PORT, tcp://HOST:PORT or unix:///dev/log; empty for none"},
			&cli.StringFlag{Name: "webhook", Usage: "send lines to `URL`; empty for none"},
			&cli.StringFlag{Name: "secret-file", Usage: "sign what is sent there with the first line of `FILE`"},
		},
		Action: func(x *cli.Context) error {
			return a.config(x.Context, x.NumFlags() > 0, func(s *sink.Settings) error { return change(s, x) })
		},
	}
}

// change does to settings what the options of a command line say.
func change(s *sink.Settings, x *cli.Context) error {
	for name, to := range map[string]*bool{"own": &s.Own, "file": &s.File.On} {
		switch v := x.String(name); {
		case v == "on" || v == "off":
			*to = v == "on"
		case x.IsSet(name):
			return apps.Usagef("--%s %q: want on or off", name, v)
		}
	}
	for _, name := range []string{"file-size", "file-count"} {
		if x.IsSet(name) && x.Int(name) < 1 {
			return apps.Usagef("option --%s: want 1 at least", name)
		}
	}
	if x.IsSet("file-size") {
		s.File.Size = int64(x.Int("file-size")) * 1_000_000
	}
	if x.IsSet("file-count") {
		s.File.Keep = x.Int("file-count")
	}
	for name, to := range map[string]*string{"syslog": &s.Syslog, "webhook": &s.Webhook} {
		if x.IsSet(name) {
			*to = x.String(name)
		}
	}
	if !x.IsSet("secret-file") {
		return nil
	}
	b, err := os.ReadFile(x.String("secret-file"))
	first, _, _ := strings.Cut(string(b), "\n")
	s.Secret = strings.TrimSpace(first)
	return err
}
