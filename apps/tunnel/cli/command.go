// Package cli is the command line of the tunnel app: `ztm tunnel`, `ztm forward`, `ztm nc`, `ztm apply`, and what `ztm get`,
// `describe` and `stats` know of tunnels. It is a client of the app's API.
package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/spec"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind { return apps.Kind{Name: spec.AppName, New: tunnel.New, Commands: commands} }

func commands(c apps.Console) apps.Commands {
	return apps.Commands{
		Top: []*cli.Command{tunnelCommand(c), forwardCommand(c), netcatCommand(c), applyCommand(c)},
		Get: getCommands(c), Describe: describeCommands(c),
		Stats:  []*cli.Command{statsCommand(c, "tunnel", "ztm stats tunnel")},
		Values: map[string]func(context.Context) []string{"tcp/NAME": newClient(c).known},
	}
}

func applyCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Category:  apps.InMesh,
		Usage:     "Make the tunnels what a file says",
		UsageText: "ztm apply -f FILE [--prune] [--dry-run]",
		Description: "The file is what `ztm get tunnel -o yaml` prints. Connections that are open stay open, but for those of\n" +
			"users that are not allowed any more.\n\n" + example(
			"ztm get tunnel -o yaml > tunnels.yaml",
			"ztm apply -f tunnels.yaml --dry-run",
			"ztm apply -f tunnels.yaml"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read this `FILE`; - for standard input"},
			&cli.BoolFlag{Name: "prune", Usage: "at the endpoints in the file, remove what is not in it"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"},
		},
		Action: func(x *cli.Context) error {
			if x.String("file") == "" {
				return &apps.UsageError{Err: errors.New("--file is missing")}
			}
			return none(x, func(ctx context.Context) error {
				return newClient(c).apply(ctx, x.String("file"), x.Bool("prune"), x.Bool("dry-run"))
			})
		},
	}
}

func forwardCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "forward",
		Category:  apps.InMesh,
		Usage:     "Take connections here to a port there, until interrupted",
		ArgsUsage: "EP [IP:]PORT:HOST:PORT ...",
		UsageText: "ztm forward [--reverse] EP [IP:]PORT:HOST:PORT[/udp] ...",
		Description: "HOST:PORT is what endpoint EP connects to; PORT:PORT and PORT mean ports of EP itself. An address may be\n" +
			"unix:PATH, and a range such as 7000-7010. With --reverse EP listens, and connections go to HOST:PORT from here.\n" +
			"At my own endpoints I may reach everything, at others what `ztm tunnel allow` has allowed.\n\n" + example(
			"ztm forward home 8080:db.local:80",
			"ztm forward home 5353:192.168.1.1:53/udp",
			"ztm forward --reverse shop 9000:localhost:3000"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "reverse", Aliases: []string{"R"}, Usage: "listen there, connect from here"}},
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				return &apps.UsageError{Err: errors.New("the name of the endpoint is missing")}
			}
			return newClient(c).forward(x.Context, x.Args().First(), x.Args().Tail(), x.Bool("reverse"))
		},
	}
}

func netcatCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "nc",
		Category:  apps.InMesh,
		Usage:     "Connect standard input and output to a port there",
		ArgsUsage: "EP HOST:PORT",
		UsageText: "ztm nc [--udp] EP HOST:PORT",
		Description: "It is a ProxyCommand for OpenSSH:\n   ssh -o 'ProxyCommand ztm nc home %h:%p' db.local\n\n" +
			example("ztm nc home db.local:22"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "udp", Aliases: []string{"u"}, Usage: "send what is read at once as one datagram"}},
		Action: func(x *cli.Context) error {
			if x.Args().Len() != 2 {
				return &apps.UsageError{Err: errors.New("want an endpoint and HOST:PORT")}
			}
			protocol := spec.TCP
			if x.Bool("udp") {
				protocol = spec.UDP
			}
			return newClient(c).netcat(x.Context, x.Args().Get(0), x.Args().Get(1), protocol)
		},
	}
}

func allowCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "allow",
		Category:  apps.AtEndpoint,
		Usage:     "Let users reach addresses from here without an outbound",
		UsageText: "ztm tunnel allow --target CIDR:PORTS|NAME:PORTS ... --users USER ...",
		Description: "It is for their `ztm forward` and `ztm nc`. PORTS is a list such as 22,8000-8999, or * for all. A name\n" +
			"matches what is asked for by that name, a network what is really connected to.\n\n" + example(
			"ztm tunnel allow --target 192.168.1.0/24:22,80 --users bob",
			"ztm tunnel allow --target '*.shop.local:443' --users bob carol"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "target", Usage: "allow this `TARGET`"},
			&cli.StringSliceFlag{Name: "users", Usage: "allow it to this `USER`, and to no others than are named"},
		},
		Action: func(x *cli.Context) error {
			return none(x, func(ctx context.Context) error {
				users := values(x.StringSlice("users"))
				if len(users) == 0 {
					return &apps.UsageError{Err: errors.New("--users is missing; see also: ztm tunnel disallow")}
				}
				if err := c.CheckUsers(ctx, users); err != nil {
					return err
				}
				return newClient(c).allow(ctx, x.StringSlice("target"), users)
			})
		},
	}
}

func disallowCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "disallow",
		Category:    apps.AtEndpoint,
		Usage:       "Take back what `ztm tunnel allow` allowed, and cut the connections that used it",
		UsageText:   "ztm tunnel disallow --target TARGET ...",
		Description: example("ztm tunnel disallow --target 192.168.1.0/24:22,80"),
		Flags:       []cli.Flag{&cli.StringSliceFlag{Name: "target", Usage: "the `TARGET`, as it was allowed"}},
		Action: func(x *cli.Context) error {
			return none(x, func(ctx context.Context) error {
				return newClient(c).allow(ctx, x.StringSlice("target"), nil)
			})
		},
	}
}

func tunnelCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:  "tunnel",
		Usage: "Make a port here a service there",
		Description: example(
			"ztm tunnel open outbound tcp/web --targets 127.0.0.1:80    # where the service is",
			"ztm tunnel open inbound tcp/web --listen 8080              # where it is wanted"),
		Subcommands: []*cli.Command{
			{
				Name:  "open",
				Usage: "Open one end of a tunnel",
				Description: example(
					"ztm tunnel open outbound tcp/web --targets 127.0.0.1:80",
					"ztm ep laptop tunnel open inbound tcp/web --listen 8080"),
				Subcommands: []*cli.Command{openInboundCommand(c), openOutboundCommand(c)},
			},
			{
				Name:        "set",
				Usage:       "Change some settings of one end of a tunnel",
				Description: example("ztm tunnel set outbound tcp/web --users bob carol"),
				Subcommands: []*cli.Command{setInboundCommand(c), setOutboundCommand(c)},
			},
			{
				Name:        "close",
				Usage:       "Close one end of a tunnel and its connections",
				Description: example("ztm tunnel close inbound tcp/web"),
				Subcommands: []*cli.Command{
					closeCommand("inbound", "in", newClient(c).inbounds().close),
					closeCommand("outbound", "out", newClient(c).outbounds().close),
				},
			},
			statsCommand(c, "stats", "ztm tunnel stats"),
			allowCommand(c),
			disallowCommand(c),
			{
				Name:        "get",
				Category:    apps.AtEndpoint,
				Usage:       "List tunnels, or the ends at one endpoint",
				Description: example("ztm tunnel get inbound"),
				Subcommands: getCommands(c),
				Action:      func(x *cli.Context) error { return none(x, newClient(c).getTunnel) },
			},
			{
				Name:        "describe",
				Usage:       "Show everything about one tunnel, or one end",
				Description: example("ztm tunnel describe outbound tcp/web"),
				Subcommands: describeCommands(c),
			},
		},
	}
}

// statsCommand is a command with a name; line is how it is written.
func statsCommand(c apps.Console, name, line string) *cli.Command {
	return &cli.Command{
		Name:        name,
		Category:    apps.AtEndpoint,
		Usage:       "Show what passed through the tunnels of an endpoint, or one of them, by peer",
		ArgsUsage:   "[tcp/NAME]",
		UsageText:   line + " [tcp/NAME]",
		Description: example(line, line+" tcp/web", "ztm ep home"+strings.TrimPrefix(line, "ztm")+" -o json"),
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				return newClient(c).stats(x.Context, "")
			}
			return one(x, newClient(c).stats)
		},
	}
}

func openInboundCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "inbound",
		Category:  apps.AtEndpoint,
		Aliases:   []string{"in"},
		Usage:     "Listen here for a service that is elsewhere",
		ArgsUsage: "tcp/NAME",
		UsageText: "ztm tunnel open inbound tcp/NAME|udp/NAME --listen [IP:]PORT ... [--exits EP ...]",
		Description: "Without --exits, connections go to my own endpoints that offer the tunnel or, if there are none, to those of\n" +
			"the user who offers it and allows me. That user stays the same when others offer it later. An address is\n" +
			"IP:PORT, NAME:PORT, *:PORT for all addresses of the machine, PORT for 127.0.0.1, or unix:PATH.\n\n" + example(
			"ztm tunnel open inbound tcp/web --listen 8080",
			"ztm tunnel open inbound tcp/db --listen unix:/run/db.sock --exits home"),
		Flags: inboundFlags(),
		Action: func(x *cli.Context) error {
			return one(x, func(ctx context.Context, name string) error { return newClient(c).inbounds().open(ctx, name, x) })
		},
	}
}

func setInboundCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "inbound",
		Category:    apps.AtEndpoint,
		Aliases:     []string{"in"},
		Usage:       "Change some settings of an inbound",
		ArgsUsage:   "tcp/NAME",
		UsageText:   "ztm tunnel set inbound tcp/NAME [--listen ADDRESS ...] [--exits EP ...] ...",
		Description: "Connections that are open stay open.\n\n" + example("ztm tunnel set inbound tcp/web --listen 8080 9090"),
		Flags:       inboundFlags(),
		Action: func(x *cli.Context) error {
			return one(x, func(ctx context.Context, name string) error { return newClient(c).inbounds().set(ctx, name, x) })
		},
	}
}

func inboundFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Usage: "listen on this `[ADDRESS]`; on none without a value"},
		&cli.StringSliceFlag{Name: "exits", Usage: "go out at this `[ENDPOINT]` alone; without a value at those that offer the tunnel"},
		&cli.StringFlag{Name: "exits-of", Usage: "go out at the endpoints of this `[USER]` that offer the tunnel; without a value as described above"},
		&cli.StringFlag{Name: "balance", Usage: "`HOW` exits share connections: round-robin, least-conn, source"},
		&cli.BoolFlag{Name: "accept-proxy-protocol", Usage: "take the client's address from the PROXY header it begins with"},
		&cli.StringFlag{Name: "idle-timeout", Usage: "forget a udp client after this `TIME` without a datagram (default: 1m)"},
	}, limitFlags()...)
}

func openOutboundCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "outbound",
		Category:  apps.AtEndpoint,
		Aliases:   []string{"out"},
		Usage:     "Offer a service that is reached from here",
		ArgsUsage: "tcp/NAME",
		UsageText: "ztm tunnel open outbound tcp/NAME|udp/NAME --targets HOST:PORT ... [--entrances EP ...] [--users USER ...]",
		Description: "Only my own endpoints may use it, and those of the users that are named. Several targets take turns, and\n" +
			"one that does not answer is left out for a while. A udp target must answer from the address that was\n" +
			"asked: a TFTP server, which answers from a new port, cannot be reached.\n\n" + example(
			"ztm tunnel open outbound tcp/web --targets 127.0.0.1:80",
			"ztm tunnel open outbound tcp/db --targets db1:5432 db2:5432 --users bob carol"),
		Flags: outboundFlags(),
		Action: func(x *cli.Context) error {
			if err := c.CheckUsers(x.Context, values(x.StringSlice("users"))); err != nil {
				return err
			}
			return one(x, func(ctx context.Context, name string) error { return newClient(c).outbounds().open(ctx, name, x) })
		},
	}
}

func setOutboundCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "outbound",
		Category:  apps.AtEndpoint,
		Aliases:   []string{"out"},
		Usage:     "Change some settings of an outbound",
		ArgsUsage: "tcp/NAME",
		UsageText: "ztm tunnel set outbound tcp/NAME [--targets ADDRESS ...] [--users USER ...] ...",
		Description: "Connections that are open stay open, but for those of users and entrances that are not allowed any more.\n\n" +
			example("ztm tunnel set outbound tcp/web --users bob carol"),
		Flags: outboundFlags(),
		Action: func(x *cli.Context) error {
			if err := c.CheckUsers(x.Context, values(x.StringSlice("users"))); err != nil {
				return err
			}
			return one(x, func(ctx context.Context, name string) error { return newClient(c).outbounds().set(ctx, name, x) })
		},
	}
}

func outboundFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "targets", Usage: "connect to this `ADDRESS`: HOST:PORT or unix:PATH"},
		&cli.StringSliceFlag{Name: "entrances", Usage: "allow this `[ENDPOINT]` alone; without a value all endpoints of the users"},
		&cli.StringSliceFlag{Name: "users", Usage: "allow this `[USER]`, too; without a value no user but me"},
		&cli.StringFlag{Name: "balance", Usage: "`HOW` targets share connections: round-robin, least-conn, source"},
		&cli.StringFlag{Name: "check", Usage: "`HOW` to see that targets are up: tcp, http:/PATH (default: from connections)"},
		&cli.StringFlag{Name: "proxy-protocol", Usage: "tell targets the client's address in a PROXY header of this `VERSION`: v1, v2"},
		&cli.StringFlag{Name: "idle-timeout", Usage: "end a udp flow after this `TIME` without a datagram (default: 1m)"},
	}, limitFlags()...)
}

func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "rate", Usage: "let at most this `RATE` pass in each direction, such as 10MB/s; 0 for any"},
		&cli.StringFlag{Name: "rate-up", Usage: "let at most this `RATE` pass from clients to targets"},
		&cli.StringFlag{Name: "rate-down", Usage: "let at most this `RATE` pass from targets to clients"},
		&cli.IntFlag{Name: "max-conns", Usage: "allow this `NUMBER` of connections at the same time; 0 for any"},
	}
}

func closeCommand(kind, alias string, action func(context.Context, string) error) *cli.Command {
	return &cli.Command{
		Name:        kind,
		Category:    apps.AtEndpoint,
		Aliases:     []string{alias},
		Usage:       "Close an " + kind,
		ArgsUsage:   "tcp/NAME",
		UsageText:   "ztm tunnel close " + kind + " tcp/NAME",
		Description: example("ztm tunnel close " + kind + " tcp/web"),
		Action:      func(x *cli.Context) error { return one(x, action) },
	}
}

func getCommands(c apps.Console) []*cli.Command {
	command := func(name, alias, usage string, action func(context.Context) error) *cli.Command {
		return &cli.Command{
			Name: name, Aliases: []string{alias}, Category: apps.AtEndpoint, Usage: usage,
			UsageText:   "ztm get " + name,
			Description: example("ztm get "+name, "ztm ep laptop get "+name+" -o json"),
			Action:      func(x *cli.Context) error { return none(x, action) },
		}
	}
	client := newClient(c)
	return []*cli.Command{
		command("tunnel", "tun", "List the tunnels of the mesh", client.getTunnel),
		command("inbound", "in", "List the inbounds of an endpoint", client.inbounds().list),
		command("outbound", "out", "List the outbounds of an endpoint", client.outbounds().list),
		command("allowed", "allow", "List what users may reach from an endpoint without an outbound", client.getAllow),
	}
}

func describeCommands(c apps.Console) []*cli.Command {
	command := func(name, alias, usage string, action func(context.Context, string) error) *cli.Command {
		return &cli.Command{
			Name: name, Aliases: []string{alias}, Category: apps.AtEndpoint, Usage: usage,
			ArgsUsage:   "tcp/NAME",
			UsageText:   "ztm describe " + name + " tcp/NAME",
			Description: example("ztm describe " + name + " tcp/web"),
			Action:      func(x *cli.Context) error { return one(x, action) },
		}
	}
	client := newClient(c)
	return []*cli.Command{
		command("tunnel", "tun", "Show which endpoints have an end of a tunnel", client.describeTunnel),
		command("inbound", "in", "Show an inbound: listeners, exits, traffic", client.inbounds().describe),
		command("outbound", "out", "Show an outbound: targets, access, traffic", client.outbounds().describe),
	}
}

// example formats command lines for a description.
func example(lines ...string) string {
	return "Example:\n   " + strings.Join(lines, "\n   ")
}

// none runs an action that takes no argument.
func none(x *cli.Context, action func(context.Context) error) error {
	if x.Args().Present() {
		return &apps.UsageError{Err: errors.New("unexpected argument " + x.Args().First())}
	}
	return action(x.Context)
}

// one runs an action that takes the name of a tunnel.
func one(x *cli.Context, action func(context.Context, string) error) error {
	switch x.Args().Len() {
	case 0:
		return &apps.UsageError{Err: errors.New("the name of the tunnel is missing")}
	case 1:
		return action(x.Context, x.Args().First())
	}
	return &apps.UsageError{Err: errors.New("unexpected argument " + x.Args().Get(1))}
}
