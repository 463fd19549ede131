package mesh

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/apps"
)

// Commands returns the commands that are about the mesh itself. get and describe are what the apps have to list and to
// describe: `ztm get tunnel` stands beside `ztm get ep`.
func Commands(console *console.Console, get, describe []*cli.Command) []*cli.Command {
	c := commands{console}
	return append(c.members(), c.views(get, describe)...)
}

// members are the commands that change who belongs to the mesh.
func (c commands) members() []*cli.Command {
	return []*cli.Command{
		{
			Name: "join", ArgsUsage: "MESH", Usage: "join a mesh with a permit",
			Description: "MESH is the name that the mesh gets on this device.\n\n" +
				"Example:\n  ztm join home --as laptop --permit bob.json",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "as", Required: true, Usage: "`NAME` of this device in the mesh"},
				&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Required: true, Usage: "`FILE` with the permit, or - for standard input"},
			},
			Action: func(x *cli.Context) error {
				return c.join(x.Context, x.Args().First(), x.String("as"), x.String("permit"))
			},
		},
		{
			Name: "leave", ArgsUsage: "MESH", Usage: "leave a mesh",
			Description: "The device keeps its key: with a new permit it can join again and is the same endpoint.\n\n" +
				"Example:\n  ztm leave home",
			Action: func(x *cli.Context) error { return c.leave(x.Context, x.Args().First()) },
		},
		{
			Name: "identity", Usage: "print the public key of this device",
			Description: "Who invites a user needs it: see ztm invite --help.\n\n" +
				"Example:\n  ztm identity > bob.pub",
			Action: func(x *cli.Context) error { return c.identity(x.Context) },
		},
		{
			Name: "invite", ArgsUsage: "USER", Usage: "make a permit with which a user can join the mesh",
			Description: "With --identity the permit is of use to one device alone and is no secret. Without it the permit\n" +
				"carries a token: who has it first can join, once, until it expires.\n\n" +
				"Example:\n  ztm invite bob --identity bob.pub --permit bob.json\n  ztm invite bob --permit bob.json --expires 1h",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "`FILE` with the public key of the device, or - for standard input"},
				&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Usage: "`FILE` to write; standard output if not given"},
				&cli.DurationFlag{Name: "expires", Value: 24 * time.Hour, DefaultText: "24h", Usage: "`TIME` after which a token is of no use"},
			},
			Action: func(x *cli.Context) error {
				return c.invite(x.Context, invitation{
					user: x.Args().First(), identity: x.String("identity"), permit: x.String("permit"), expires: x.Duration("expires"),
				})
			},
		},
		{
			Name: "evict", ArgsUsage: "USER", Usage: "remove a user and all his devices from the mesh",
			Description: "Running sessions are cut at once. The user can be invited again.\n\n" +
				"Example:\n  ztm evict bob",
			Action: func(x *cli.Context) error { return c.evict(x.Context, x.Args().First()) },
		},
		{
			Name: "label", Usage: "show or change the labels of this endpoint",
			Description: "Example:\n  ztm label --add env:prod web --delete test\n  ztm ep nas label",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "add", Usage: "`LABEL` to add"},
				&cli.StringSliceFlag{Name: "delete", Usage: "`LABEL` to remove"},
			},
			Action: func(x *cli.Context) error {
				return c.label(x.Context, x.StringSlice("add"), x.StringSlice("delete"))
			},
		},
	}
}

// views are the commands that show the mesh.
func (c commands) views(get, describe []*cli.Command) []*cli.Command {
	return []*cli.Command{
		{
			Name: "get", Usage: "list meshes, endpoints, hubs, users, tunnels",
			Description: "Example:\n  ztm get ep\n  ztm get mesh -o json",
			Subcommands: append([]*cli.Command{
				c.named("mesh", []string{"meshes"}, "[MESH]", "list the meshes that this agent has joined", c.getMesh),
				c.getEndpoint(),
				c.named("hub", []string{"hubs"}, "[HUB]", "list the hubs of the mesh", c.getHubs),
				c.named("user", []string{"users"}, "[USER]", "list the users of the mesh", c.getUsers),
			}, get...),
		},
		{
			Name: "describe", Usage: "show one of them in detail: a mesh, an endpoint, a tunnel",
			Description: "Example:\n  ztm describe ep laptop",
			Subcommands: append([]*cli.Command{
				c.named("mesh", []string{"meshes"}, "[MESH]", "show a mesh in detail", c.describeMesh),
				c.named("ep", []string{"endpoint", "endpoints"}, "[EP]", "show an endpoint in detail", c.describeEndpoint),
				c.named("hub", []string{"hubs"}, "HUB", "show a hub in detail", c.describeHub),
				c.named("user", []string{"users"}, "USER", "show a user in detail", c.describeUser),
			}, describe...),
		},
		c.endpointVerb("ping", "measure the way to an endpoint", c.ping),
		c.endpointVerb("stats", "show how much an endpoint has sent and received since it started", c.stats),
		c.endpointVerb("log", "show the recent log of an endpoint", c.log),
	}
}

func (c commands) getEndpoint() *cli.Command {
	return &cli.Command{
		Name: "ep", Aliases: []string{"endpoint", "endpoints"}, ArgsUsage: "[KEYWORD]", Usage: "list the endpoints of the mesh",
		Description: "KEYWORD is a part of a name or of a label.\n\nExample:\n  ztm get ep\n  ztm get ep web --online -o wide",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "only those of `USER`"},
			&cli.StringFlag{Name: "offer", Usage: "only those that offer `SERVICE`, for example tunnel/tcp/web"},
			&cli.BoolFlag{Name: "online", Usage: "only those that are online"},
			&cli.IntFlag{Name: "limit", Usage: "at most `COUNT`"},
			&cli.IntFlag{Name: "offset", Usage: "skip the first `COUNT`"},
		},
		Action: func(x *cli.Context) error {
			return c.getEndpoints(x.Context, apps.Filter{
				Keyword: x.Args().First(), User: x.String("user"), Offer: x.String("offer"), Online: x.Bool("online"),
				Limit: x.Int("limit"), Offset: x.Int("offset"),
			})
		},
	}
}

// action is a command that takes one name, which may be empty if the grammar allows it.
type action func(ctx context.Context, name string) error

// named is a command with one name and no options.
func (c commands) named(name string, aliases []string, args, usage string, do action) *cli.Command {
	return &cli.Command{
		Name: name, Aliases: aliases, ArgsUsage: args, Usage: usage,
		Action: func(x *cli.Context) error { return do(x.Context, x.Args().First()) },
	}
}

// endpointVerb is a command of the form `ztm VERB ep [EP]`.
func (c commands) endpointVerb(verb, usage string, do action) *cli.Command {
	ep := c.named("ep", []string{"endpoint"}, "[EP]", usage, do)
	ep.Description = "Without EP it is about this agent's own endpoint, or the one of the prefix.\n\nExample:\n  ztm " + verb + " ep laptop"
	return &cli.Command{Name: verb, Usage: usage, Description: "Example:\n  ztm " + verb + " ep laptop", Subcommands: []*cli.Command{ep}}
}
