// Package cli is the command line of the tunnel app: `ztm tunnel`, `ztm forward`, `ztm nc`, `ztm
// apply`, and what `ztm get`, `describe` and `stats` know of tunnels. It is a client of the app's
// API.
package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/spec"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind { return apps.Kind{Name: spec.AppName, New: tunnel.New, Commands: commands} }

func commands(c apps.Console) apps.Commands {
	top := []*cli.Command{tunnelCommand(c), forwardCommand(c), netcatCommand(c), applyCommand(c)}
	if imports {
		top = append(top, importCommand(c))
	}
	return apps.Commands{
		Top: top,
		Get: getCommands(c), Describe: describeCommands(c),
		Stats:  []*cli.Command{statsCommand(c, "tunnel", "ztm stats tunnel")},
		Values: map[string]func(context.Context) []string{"tcp/NAME": newClient(c).known},
	}
}

func applyCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Category:  apps.InMesh,
		Usage:     "apply tunnel configuration from a file",
		UsageText: "ztm apply -f FILE [--prune] [--dry-run]",
		Description: "The file has the form that `ztm tunnel export` prints. Open connections stay open, except those of users who\n" +
			"are no longer allowed.\n\n" + apps.Example(
			"ztm tunnel export > tunnels.yaml",
			"ztm apply -f tunnels.yaml --dry-run",
			"ztm apply -f tunnels.yaml"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read `FILE`; - for standard input"},
			&cli.BoolFlag{Name: "prune", Usage: "remove what the file does not have, at the endpoints that it names"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print what would change, and change nothing"},
		},
		Action: func(x *cli.Context) error {
			if x.String("file") == "" {
				return apps.Usagef("missing option --file")
			}
			return none(x, func(ctx context.Context) error {
				return newClient(c).apply(ctx, x.String("file"), x.Bool("prune"), x.Bool("dry-run"))
			})
		},
	}
}

func importCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Category:  apps.AtEndpoint,
		Usage:     "show, or open, the tunnels that a configuration of frp's client means",
		ArgsUsage: "FILE",
		UsageText: "ztm import FILE [--server EP] [--apply]",
		Description: "FILE is frpc.toml, or - for standard input. Without --apply, the commands are printed and nothing is changed. What\n" +
			"cannot be a tunnel is named, with the reason. Ports of frp's server are opened at the endpoint --server.\n\n" + apps.Example(
			"ztm import frpc.toml",
			"ztm import frpc.toml --server gate --apply"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "server", Usage: "listen on the remote ports at `EP`"},
			&cli.BoolFlag{Name: "apply", Usage: "open the tunnels"},
		},
		Action: func(x *cli.Context) error {
			return one(x, func(ctx context.Context, file string) error {
				return newClient(c).importFrp(ctx, file, x.String("server"), x.Bool("apply"))
			})
		},
	}
}

func forwardCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "forward",
		Category:  apps.InMesh,
		Usage:     "forward local ports to an endpoint until interrupted",
		ArgsUsage: "EP [IP:]PORT:HOST:PORT ...",
		UsageText: "ztm forward [--reverse] EP [IP:]PORT:HOST:PORT[/udp] ...",
		Description: "EP connects to HOST:PORT. PORT:PORT and PORT mean ports of EP itself. An address can be unix:PATH, and a port can\n" +
			"be a range such as 7000-7010. With --reverse, EP listens and this endpoint connects to HOST:PORT. At your own\n" +
			"endpoints you may reach everything, at others what `ztm tunnel allow` has allowed.\n\n" + apps.Example(
			"ztm forward home 8080:db.local:80",
			"ztm forward home 5353:192.168.1.1:53/udp",
			"ztm forward --reverse shop 9000:localhost:3000"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "reverse", Aliases: []string{"R"}, Usage: "listen at EP and connect from here"}},
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				return apps.Usagef("missing EP")
			}
			return newClient(c).forward(x.Context, x.Args().First(), x.Args().Tail(), x.Bool("reverse"))
		},
	}
}

func netcatCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "nc",
		Category:  apps.InMesh,
		Usage:     "connect standard input and output to a port of an endpoint",
		ArgsUsage: "EP HOST:PORT",
		UsageText: "ztm nc [--udp] EP HOST:PORT",
		Description: "It can be the ProxyCommand of OpenSSH:\n   ssh -o 'ProxyCommand ztm nc home %h:%p' db.local\n\n" +
			apps.Example("ztm nc home db.local:22"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "udp", Aliases: []string{"u"}, Usage: "use UDP; what one read returns is one datagram"}},
		Action: func(x *cli.Context) error {
			if x.Args().Len() != 2 {
				return apps.Usagef("want EP and HOST:PORT")
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
		Usage:     "let users reach addresses through this endpoint without an outbound",
		UsageText: "ztm tunnel allow --target CIDR:PORTS|NAME:PORTS ... --users USER ...",
		Description: "It applies to `ztm forward` and `ztm nc`. PORTS is a list such as 22,8000-8999, or * for all. NAME matches the name\n" +
			"that is asked for, and CIDR the address that it resolves to.\n\n" + apps.Example(
			"ztm tunnel allow --target 192.168.1.0/24:22,80 --users bob",
			"ztm tunnel allow --target '*.shop.local:443' --users bob carol"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "target", Usage: "allow `TARGET`"},
			&cli.StringSliceFlag{Name: "users", Usage: "allow `USER`, and nobody who is not named"},
		},
		Action: func(x *cli.Context) error {
			return none(x, func(ctx context.Context) error {
				users := values(x.StringSlice("users"))
				if len(users) == 0 {
					return apps.Usagef("missing option --users; to remove access: ztm tunnel disallow")
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
		Usage:       "remove what `ztm tunnel allow` has allowed, and cut its connections",
		UsageText:   "ztm tunnel disallow --target TARGET ...",
		Description: apps.Example("ztm tunnel disallow --target 192.168.1.0/24:22,80"),
		Flags:       []cli.Flag{&cli.StringSliceFlag{Name: "target", Usage: "remove `TARGET`, written as it was allowed"}},
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
		Usage: "forward local ports to services on other endpoints",
		Description: apps.Example(
			"ztm tunnel open outbound tcp/web --targets 127.0.0.1:80    # where the service is",
			"ztm tunnel open inbound tcp/web --listen 8080              # where it is wanted"),
		Subcommands: []*cli.Command{
			{
				Name:  "open",
				Usage: "open an inbound or an outbound",
				Description: apps.Example(
					"ztm tunnel open outbound tcp/web --targets 127.0.0.1:80",
					"ztm ep laptop tunnel open inbound tcp/web --listen 8080"),
				Subcommands: []*cli.Command{openInboundCommand(c), openOutboundCommand(c)},
			},
			{
				Name:        "set",
				Usage:       "change settings of an inbound or an outbound",
				Description: apps.Example("ztm tunnel set outbound tcp/web --users bob carol", "ztm tunnel set outbound tcp/web --off"),
				Subcommands: []*cli.Command{setInboundCommand(c), setOutboundCommand(c)},
			},
			{
				Name:        "close",
				Usage:       "close an inbound or an outbound and its connections",
				Description: apps.Example("ztm tunnel close inbound tcp/web"),
				Subcommands: []*cli.Command{
					closeCommand("inbound", "in", newClient(c).inbounds().close),
					closeCommand("outbound", "out", newClient(c).outbounds().close),
				},
			},
			statsCommand(c, "stats", "ztm tunnel stats"),
			allowCommand(c),
			disallowCommand(c),
			{
				Name:        "export",
				Category:    apps.AtEndpoint,
				Usage:       "print the tunnels of your endpoints as a file",
				Description: "`ztm apply` reads it.\n\n" + apps.Example("ztm tunnel export > tunnels.yaml"),
				Action:      func(x *cli.Context) error { return none(x, newClient(c).export) },
			},
			{
				Name:        "get",
				Category:    apps.AtEndpoint,
				Usage:       "list tunnels, inbounds or outbounds",
				Description: apps.Example("ztm tunnel get inbound"),
				Subcommands: getCommands(c),
				Action:      func(x *cli.Context) error { return none(x, newClient(c).getTunnel) },
			},
			{
				Name:        "describe",
				Usage:       "show a tunnel, an inbound or an outbound in detail",
				Description: apps.Example("ztm tunnel describe outbound tcp/web"),
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
		Usage:       "show the traffic of the tunnels of an endpoint by peer",
		ArgsUsage:   "[tcp/NAME]",
		UsageText:   line + " [tcp/NAME]",
		Description: apps.Example(line, line+" tcp/web", "ztm ep home"+strings.TrimPrefix(line, "ztm")+" -o json"),
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
		Usage:     "listen on local ports for a service of another endpoint",
		ArgsUsage: "tcp/NAME",
		UsageText: "ztm tunnel open inbound tcp/NAME|udp/NAME --listen [IP:]PORT ... [--exits EP ...]",
		Description: "Without --exits, connections go to your own endpoints that offer the tunnel. If there are none, they go to those of\n" +
			"the user who offers the tunnel and allows you. That user stays the same when others offer it later. An address is\n" +
			"IP:PORT, NAME:PORT, *:PORT for all addresses of the machine, PORT for 127.0.0.1, or unix:PATH.\n\n" + apps.Example(
			"ztm tunnel open inbound tcp/web --listen 8080",
			"ztm tunnel open inbound tcp/db --listen unix:/run/db.sock --exits home"),
		Flags: inboundFlags(),
		Action: func(x *cli.Context) error {
			return one(x, func(ctx context.Context, name string) error { return newClient(c).openInbound(ctx, name, x) })
		},
	}
}

// openInbound opens an inbound, and says so where nobody offers what it is for: the name may be
// wrong, or the outbound is still to come.
func (c *client) openInbound(ctx context.Context, name string, x *cli.Context) error {
	if err := c.CheckUsers(ctx, values([]string{x.String("exits-of")})); err != nil {
		return err
	}
	if err := c.inbounds().open(ctx, name, x); err != nil || x.IsSet("exits") {
		return err
	}
	offered, err := c.Endpoints(ctx, apps.Filter{Offer: spec.AppName + "/" + name})
	if err == nil && len(offered) == 0 {
		fmt.Fprintf(c.Stderr(), "warning: no endpoint offers %s now: check the name\n", name)
	}
	return nil
}

func setInboundCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "inbound",
		Category:    apps.AtEndpoint,
		Aliases:     []string{"in"},
		Usage:       "change settings of an inbound",
		ArgsUsage:   "tcp/NAME",
		UsageText:   "ztm tunnel set inbound tcp/NAME [--listen ADDRESS ...] [--exits EP ...] ...",
		Description: "Open connections stay open.\n\n" + apps.Example("ztm tunnel set inbound tcp/web --listen 8080 9090"),
		Flags:       inboundFlags(),
		Action: func(x *cli.Context) error {
			if err := c.CheckUsers(x.Context, values([]string{x.String("exits-of")})); err != nil {
				return err
			}
			return one(x, func(ctx context.Context, name string) error { return newClient(c).inbounds().set(ctx, name, x) })
		},
	}
}

func inboundFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Usage: "listen on `[ADDRESS]`; without a value on none"},
		&cli.StringSliceFlag{Name: "exits", Usage: "use only exit `[ENDPOINT]`; without a value, all that offer the tunnel"},
		&cli.StringFlag{Name: "exits-of", Usage: "use the exits of `[USER]`; without a value, as described above"},
		&cli.StringFlag{Name: "balance", Usage: "choose exits by `HOW`: round-robin, least-conn, source"},
		&cli.BoolFlag{Name: "accept-proxy-protocol", Usage: "read the client's address from a PROXY header"},
		&cli.StringFlag{Name: "idle-timeout", Usage: "forget a UDP client after `TIME` without a datagram (default: 1m)"},
	}, limitFlags()...)
}

func openOutboundCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "outbound",
		Category:  apps.AtEndpoint,
		Aliases:   []string{"out"},
		Usage:     "offer a service that this endpoint can reach",
		ArgsUsage: "tcp/NAME",
		UsageText: "ztm tunnel open outbound tcp/NAME|udp/NAME --targets HOST:PORT ... [--entrances EP ...] [--users USER ...]",
		Description: "Only your own endpoints and those of the named users may use it. Several targets take turns, and a target that\n" +
			"does not answer is skipped for a while. A UDP target must answer from the address that was asked. A TFTP server\n" +
			"answers from a new port and cannot be reached.\n\n" + apps.Example(
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
		Usage:     "change settings of an outbound",
		ArgsUsage: "tcp/NAME",
		UsageText: "ztm tunnel set outbound tcp/NAME [--targets ADDRESS ...] [--users USER ...] ...",
		Description: "Open connections stay open, except those of users and entrances that are no longer allowed, and all with --off.\n\n" +
			apps.Example("ztm tunnel set outbound tcp/web --users bob carol"),
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
		&cli.StringSliceFlag{Name: "targets", Usage: "connect to `ADDRESS`: HOST:PORT or unix:PATH"},
		&cli.StringSliceFlag{Name: "entrances", Usage: "allow only `[ENDPOINT]`; without a value, all endpoints of the users"},
		&cli.StringSliceFlag{Name: "users", Usage: "also allow `[USER]`; without a value, only your own user"},
		&cli.StringFlag{Name: "balance", Usage: "choose targets by `HOW`: round-robin, least-conn, source"},
		&cli.StringFlag{Name: "check", Usage: "check targets by `HOW`: tcp, http:/PATH (default: by connections)"},
		&cli.StringFlag{Name: "proxy-protocol", Usage: "send targets a PROXY header of `VERSION`: v1, v2"},
		&cli.StringFlag{Name: "idle-timeout", Usage: "end a UDP flow after `TIME` without a datagram (default: 1m)"},
		&cli.BoolFlag{Name: "off", Usage: "refuse all connections and keep the settings; --off=false serves again"},
	}, limitFlags()...)
}

func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "rate", Usage: "limit each direction to `RATE`, such as 10MB/s; 0 for no limit"},
		&cli.StringFlag{Name: "rate-up", Usage: "limit the direction to targets to `RATE`"},
		&cli.StringFlag{Name: "rate-down", Usage: "limit the direction to clients to `RATE`"},
		&cli.IntFlag{Name: "max-conns", Usage: "allow `NUMBER` connections at the same time; 0 for no limit"},
	}
}

func closeCommand(kind, alias string, action func(context.Context, string) error) *cli.Command {
	return &cli.Command{
		Name:        kind,
		Category:    apps.AtEndpoint,
		Aliases:     []string{alias},
		Usage:       "close an " + kind,
		ArgsUsage:   "tcp/NAME",
		UsageText:   "ztm tunnel close " + kind + " tcp/NAME",
		Description: apps.Example("ztm tunnel close " + kind + " tcp/web"),
		Action:      func(x *cli.Context) error { return one(x, action) },
	}
}

func getCommands(c apps.Console) []*cli.Command {
	command := func(name, alias, usage string, action func(context.Context) error) *cli.Command {
		return &cli.Command{
			Name: name, Aliases: []string{alias}, Category: apps.AtEndpoint, Usage: usage,
			UsageText:   "ztm get " + name,
			Description: apps.Example("ztm get "+name, "ztm ep laptop get "+name+" -o json"),
			Action:      func(x *cli.Context) error { return none(x, action) },
		}
	}
	client := newClient(c)
	return []*cli.Command{
		command("tunnel", "tun", "list the tunnels of the mesh", client.getTunnel),
		command("inbound", "in", "list the inbounds of an endpoint", client.listInbounds),
		command("outbound", "out", "list the outbounds of an endpoint", client.listOutbounds),
		command("allowed", "allow", "list what users may reach through an endpoint without an outbound", client.getAllow),
	}
}

func describeCommands(c apps.Console) []*cli.Command {
	command := func(name, alias, usage string, action func(context.Context, string) error) *cli.Command {
		return &cli.Command{
			Name: name, Aliases: []string{alias}, Category: apps.AtEndpoint, Usage: usage,
			ArgsUsage:   "tcp/NAME",
			UsageText:   "ztm describe " + name + " tcp/NAME",
			Description: apps.Example("ztm describe " + name + " tcp/web"),
			Action:      func(x *cli.Context) error { return one(x, action) },
		}
	}
	client := newClient(c)
	return []*cli.Command{
		command("tunnel", "tun", "show which endpoints have an inbound or an outbound of a tunnel", client.describeTunnel),
		command("inbound", "in", "show an inbound: listeners, exits, traffic", client.inbounds().describe),
		command("outbound", "out", "show an outbound: targets, access, traffic", client.outbounds().describe),
	}
}

// none runs an action that takes no argument.
func none(x *cli.Context, action func(context.Context) error) error {
	if err := apps.NoArguments(x); err != nil {
		return err
	}
	return action(x.Context)
}

// one runs an action that takes the name of a tunnel.
func one(x *cli.Context, action func(context.Context, string) error) error {
	switch x.Args().Len() {
	case 0:
		return apps.Usagef("missing tcp/NAME or udp/NAME")
	case 1:
		return action(x.Context, x.Args().First())
	}
	return apps.Usagef("unexpected %q", x.Args().Get(1))
}
